"""Temperatures and thresholds: fitted on dev, cross-fitted wherever a figure is reported."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.analyzer import Reading
from serving.decode import decode
from serving.document_head import choose, probabilities
from training.corpus import AnnotatedDocument
from training.schema import Schema

Float = npt.NDArray[np.float64]

_TEMPERATURES = np.geomspace(0.4, 4.0, 25)
_THRESHOLDS = np.arange(0.1, 0.91, 0.05)
_STRAY_COST = 0.15
"""F1 that a label's threshold must win to leave the common one by 1: rare labels stay near it."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """Temperature of the document head and one threshold a label."""

    temperature: float
    thresholds: Float


def fit_labels(logits: Float, gold: Float) -> LabelCalibration:
    """Temperature by log loss, then thresholds by F1. *Shape:* (documents, labels) both."""
    losses = [_log_loss(probabilities(logits, t), gold) for t in _TEMPERATURES]
    temperature = float(_TEMPERATURES[int(np.argmin(losses))])
    scores = probabilities(logits, temperature)
    f1 = np.stack([_f1(scores >= t, gold) for t in _THRESHOLDS])  # (thresholds, labels)
    common = _THRESHOLDS[int(np.argmax(f1.mean(axis=1)))]
    stray = _STRAY_COST * np.abs(_THRESHOLDS - common)
    return LabelCalibration(temperature, _THRESHOLDS[(f1 - stray[:, None]).argmax(axis=0)])


def label_matrix(documents: Sequence[AnnotatedDocument], schema: Schema) -> Float:
    """Gold labels as 0 and 1. *Shape:* (documents, labels)."""
    return np.array([[float(name in (d.cats or ())) for name in schema.labels] for d in documents]).reshape(
        len(documents), len(schema.labels)
    )


def cross_fitted_labels(
    logits: Float, gold: Float, exclusive: Sequence[int], folds: int = FOLDS
) -> list[list[int]]:
    """Labels of each document, chosen with thresholds fitted on the other folds only."""
    fold_of = np.random.default_rng(13).permutation(len(logits)) % folds
    chosen: list[list[int]] = [[] for _ in logits]
    for fold in range(folds):
        rest = fold_of != fold
        if not rest.any():
            continue
        fitted = fit_labels(logits[rest], gold[rest])
        for at in np.flatnonzero(~rest):
            scores = probabilities(logits[at], fitted.temperature)
            chosen[at] = choose(scores, fitted.thresholds, exclusive)
    return chosen


def fit_span_temperature(
    readings: Sequence[Reading], documents: Sequence[AnnotatedDocument], schema: Schema
) -> float:
    """The temperature at which span scores tell best which spans are right (log loss)."""
    names = list(schema.types)
    gold = [_gold_keys(document) for document in documents]
    losses = []
    for temperature in _TEMPERATURES:
        spans = decode([r.tag_logits for r in readings], [r.stream for r in readings], temperature)
        scores, right = [], []
        for reading, found, wanted in zip(readings, spans, gold, strict=True):
            stream = reading.stream
            for span in found:
                key = (
                    int(stream.fields[span.first]),
                    int(stream.starts[span.first]),
                    int(stream.ends[span.last]),
                    names[span.type],
                )
                scores.append(span.score)
                right.append(float(key in wanted))
        losses.append(_log_loss(np.array(scores), np.array(right)) if scores else 0.0)
    return float(_TEMPERATURES[int(np.argmin(losses))])


def expected_calibration_error(scores: Float, right: Float, bins: int = 10) -> float:
    """Mean gap between score and accuracy over equal-width bins, weighted by their size."""
    if not len(scores):
        return float("nan")
    bin_of = np.minimum((scores * bins).astype(int), bins - 1)
    return float(
        sum(
            abs(scores[bin_of == b].mean() - right[bin_of == b].mean()) * (bin_of == b).mean()
            for b in np.unique(bin_of)
        )
    )


def _gold_keys(document: AnnotatedDocument) -> set[tuple[int, int, int, str]]:
    return {
        (field, span.start, span.end, span.type)
        for field, spans in enumerate((document.title_entities, document.entities))
        for span in spans
    }


def _log_loss(scores: Float, right: Float) -> float:
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    return float(-(right * np.log(clipped) + (1 - right) * np.log(1 - clipped)).mean())


def _f1(predicted: npt.NDArray[np.bool_], gold: Float) -> Float:
    """F1 of each label. *Shape:* (documents, labels) both -> (labels,)."""
    hits = (predicted * gold).sum(axis=0)
    return np.asarray(2 * hits / np.maximum(predicted.sum(axis=0) + gold.sum(axis=0), 1))
