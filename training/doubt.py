"""How unsure a model was of a document, by the scores that it gave its spans and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.results import Entity, Label
from training.scored import ScoredDocument

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Doubt:
    """Two measures, each 0 (sure) to 1; they are not on one scale."""

    spans: float
    """The share of its spans that the model expects to be wrong."""
    labels: float
    """How near to its threshold the label lies that is nearest."""


def doubt(scored: ScoredDocument, thresholds: Mapping[str, float]) -> Doubt:
    """Of one document. `thresholds`: of the model's labels by name."""
    return Doubt(_of_spans(scored.entities), _of_labels(scored.labels, thresholds))


def standing(values: Sequence[float] | Float) -> Float:
    """Each value's rank among all, 0 to 1; equal values share theirs. *Shape:* (documents,)."""
    _, position, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return np.asarray(middle[position] / max(1, len(position)), dtype=np.float64)


def _of_spans(entities: Sequence[Entity]) -> float:
    """The mean, so that a long document is no more doubtful than a short one."""
    return sum(1 - entity.score for entity in entities) / max(1, len(entities))


def _of_labels(labels: Sequence[Label] | None, thresholds: Mapping[str, float]) -> float:
    """A document that got no label is a doubtful one: the label rules want at least one."""
    if labels is None:
        return 0.0
    return max((_nearness(label.score, thresholds[label.label]) for label in labels), default=1.0)


def _nearness(score: float, threshold: float) -> float:
    """1 at the threshold, 0 at a score of 0 or 1."""
    room = 1 - threshold if score >= threshold else threshold
    return 1 - abs(score - threshold) / room if room else 0.0
