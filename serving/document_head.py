"""Document labels from token outputs: label-wise attention over the whole document.

For label k, token t has an attention score a_tk and a value v_tk. The document's logit is
sum_t softmax_t(a)_tk v_tk over *all* tokens of all windows, so that labels are decided on
the document and not on a window. The sum splits over sentences without remainder: what a
sentence adds to the logit is its evidence, and needs no second pass.
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


def contributions(scores: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> Float:
    """What each token adds to each label's logit; the column sums are the logits.

    *Shape:* (tokens, labels), as both inputs.
    """
    attention = np.exp(scores.astype(np.float64) - scores.max(axis=0))
    attention /= attention.sum(axis=0)
    return np.asarray(attention * values, dtype=np.float64)


def probabilities(logits: Float, temperature: float) -> Float:
    """Calibrated probability of each label. *Shape:* as `logits`."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits / temperature)), dtype=np.float64)


def choose(scores: Float, thresholds: Sequence[float] | Float, exclusive: Sequence[int]) -> list[int]:
    """Indices of the labels that hold, best first; none is ever forced.

    A label that stands alone (`not_sanctions`) is returned only when it is over its
    threshold and beats every other label; then nothing else is.
    """
    held = [i for i in range(len(scores)) if scores[i] >= thresholds[i]]
    held.sort(key=lambda i: (-scores[i], i))
    if held and held[0] in exclusive:
        return held[:1]
    return [i for i in held if i not in exclusive]


def sentence_shares(token_contributions: Float, sentence_of: npt.NDArray[np.int64]) -> Float:
    """Each sentence's share of what speaks for a label. *Shape:* (sentences,).

    `token_contributions` (tokens,) of one label; `sentence_of` (tokens,) numbers from 0.
    Sentences that speak against the label get 0; the shares of the others sum to 1.
    """
    total = np.bincount(sentence_of, weights=token_contributions)
    positive = np.maximum(total, 0.0)
    mass = positive.sum()
    return positive / mass if mass > 0 else positive
