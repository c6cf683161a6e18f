"""Document labels from token outputs: label-wise attention over the whole document.

For label k, token t has an attention score a_tk and a value v_tk. The document's logit is
sum_t softmax_t(a)_tk v_tk over *all* tokens of all windows, so that labels are decided on
the document and not on a window; in a report, on the stretch of it that says most. The same two
numbers say which sentence speaks for a label, without a second pass: how much it is attended to,
and what it says on its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels in the order of the document head, their axes, thresholds and temperature."""

    names: tuple[str, ...]
    axes: tuple[str, ...]
    thresholds: tuple[float, ...]
    temperature: float

    def exclusive(self) -> list[int]:
        """Labels that stand alone: those that deny relevance."""
        return [i for i, axis in enumerate(self.axes) if axis == "relevance"]


_STRETCH = 1024
"""Tokens, more than almost every article has. One page of a report of 5,000 words would lose its
share of attention to all the others (docs/LOG.md)."""


def attention(
    scores: npt.NDArray[np.float32], values: npt.NDArray[np.float32], exclusive: Sequence[int]
) -> Float:
    """How much each token counts for each label; columns sum to 1. *Shape:* (tokens, labels).

    Longer texts are judged by stretches that half overlap: a label by the one that speaks most for
    it, a label that stands alone (`exclusive`) by the one that speaks most against it.
    """
    starts = range(0, max(1, len(scores) - _STRETCH // 2), _STRETCH // 2)
    stretches = [_softmax(scores[start : start + _STRETCH]) for start in starts]
    if len(stretches) == 1:
        return stretches[0]
    logits = np.array(
        [(w * values[at : at + len(w)]).sum(axis=0) for at, w in zip(starts, stretches, strict=True)]
    )
    chosen = logits.argmax(axis=0)
    chosen[list(exclusive)] = logits[:, list(exclusive)].argmin(axis=0)
    weights = np.zeros(scores.shape, dtype=np.float64)
    for label, number in enumerate(chosen):
        stretch = stretches[number]
        weights[starts[number] : starts[number] + len(stretch), label] = stretch[:, label]
    return weights


def _softmax(scores: npt.NDArray[np.float32]) -> Float:
    weights = np.exp(scores.astype(np.float64) - scores.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0), dtype=np.float64)


def probabilities(logits: Float, temperature: float) -> Float:
    """Calibrated probability of each label. *Shape:* as `logits`."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits / temperature)), dtype=np.float64)


def choose(scores: Float, thresholds: Sequence[float] | Float, exclusive: Sequence[int]) -> list[int]:
    """Indices of the labels that hold, best first; none is ever forced.

    A label that stands alone (`not_sanctions`) is returned only when it is over its
    threshold and beats every other label; then nothing else is.
    """
    for alone in exclusive:
        others = np.delete(scores, alone)
        if scores[alone] >= thresholds[alone] and (others < scores[alone]).all():
            return [alone]
    held = [i for i in range(len(scores)) if scores[i] >= thresholds[i] and i not in exclusive]
    return sorted(held, key=lambda i: (-scores[i], i))


def sentence_shares(weights: Float, values: Float, sentence_of: npt.NDArray[np.int64]) -> Float:
    """Each sentence's share of the evidence for one label; sums to 1. *Shape:* (sentences,).

    A sentence counts by the attention it gets times the probability of the label if it were
    the whole document. `weights`, `values`, `sentence_of` (numbers from 0): (tokens,).
    """
    mass = np.bincount(sentence_of, weights=weights)
    logits = np.bincount(sentence_of, weights=weights * values) / np.maximum(mass, 1e-12)
    evidence = mass * probabilities(logits, 1.0)
    return np.asarray(evidence / evidence.sum(), dtype=np.float64)
