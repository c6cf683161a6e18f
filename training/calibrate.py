"""Temperatures and thresholds: fitted on dev, cross-fitted wherever a figure is reported."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.analyzer import Reading
from serving.decode import decode
from serving.document_head import choose, probabilities
from serving.shape import SCORE_DECIMALS
from training.corpus import AnnotatedDocument
from training.schema import Schema

Float = npt.NDArray[np.float64]

_TEMPERATURES = np.geomspace(0.4, 4.0, 25)
_THRESHOLDS = np.arange(0.1, 0.91, 0.05)
_USUAL = 0.5
"""The threshold of a label of which too little is known: rare labels weigh more in training already."""
_STRAY_COST = 1.0
"""F1 that a label's threshold must win to leave the usual one by 1 (docs/LOG.md compares)."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """Temperature of the document head and one threshold a label."""

    temperature: float
    thresholds: Float


def fit_labels(logits: Float, gold: Float) -> LabelCalibration:
    """Temperature by log loss, then thresholds by F1, near 0.5 unless much speaks for another.

    *Shape:* (documents, labels) both.
    """
    losses = [_log_loss(probabilities(logits, t), gold) for t in _TEMPERATURES]
    temperature = float(_TEMPERATURES[int(np.argmin(losses))])
    scores = probabilities(logits, temperature)
    f1 = np.stack([_f1(scores >= t, gold) for t in _THRESHOLDS])  # (thresholds, labels)
    stray = _STRAY_COST * np.abs(_THRESHOLDS - _USUAL)
    return LabelCalibration(temperature, _THRESHOLDS[(f1 - stray[:, None]).argmax(axis=0)])


def label_matrix(documents: Sequence[AnnotatedDocument], schema: Schema) -> Float:
    """Gold labels as 0 and 1. *Shape:* (documents, labels)."""
    rows = [[float(name in (d.cats or ())) for name in schema.labels] for d in documents]
    return np.array(rows).reshape(len(documents), len(schema.labels))


@dataclass(frozen=True, slots=True)
class CrossFittedLabels:
    """Labels and scores of each document under calibrations that never saw it."""

    chosen: list[list[int]]
    scores: Float
    """*Shape:* (documents, labels)."""


def cross_fitted_labels(logits: Float, gold: Float, exclusive: Sequence[int]) -> CrossFittedLabels:
    """Each document judged with temperature and thresholds fitted on the other folds."""
    chosen: list[list[int]] = [[] for _ in logits]
    scores = np.zeros_like(logits)
    for rest, fold in _folds(len(logits)):
        fitted = fit_labels(logits[rest], gold[rest])
        scores[fold] = probabilities(logits[fold], fitted.temperature).round(SCORE_DECIMALS)
        for at in fold:
            chosen[at] = choose(scores[at], fitted.thresholds, exclusive)
    return CrossFittedLabels(chosen, scores)


def fit_span_temperature(
    readings: Sequence[Reading], documents: Sequence[AnnotatedDocument], schema: Schema
) -> float | None:
    """The temperature at which span scores tell best which spans are right (log loss).

    None where no span is predicted: then all temperatures are as good.
    """
    found = [span_scores(readings, documents, schema, t) for t in _TEMPERATURES]
    if not any(len(scores) for scores, _ in found):
        return None
    return float(_TEMPERATURES[int(np.argmin([_log_loss(*pair) for pair in found]))])


def cross_fitted_span_scores(
    readings: Sequence[Reading], documents: Sequence[AnnotatedDocument], schema: Schema
) -> tuple[Float, Float]:
    """Scores of predicted spans and whether they are right, each under a temperature of other folds.

    Where the other folds have no span to fit one on, under 1.
    """
    parts = []
    for rest, fold in _folds(len(readings)):
        temperature = fit_span_temperature(*_pick(readings, documents, rest), schema) or 1.0
        parts.append(span_scores(*_pick(readings, documents, fold), schema, temperature))
    scores, right = zip(*parts, strict=True) if parts else ([np.zeros(0)], [np.zeros(0)])
    return np.concatenate(scores), np.concatenate(right)


def span_scores(
    readings: Sequence[Reading],
    documents: Sequence[AnnotatedDocument],
    schema: Schema,
    temperature: float,
) -> tuple[Float, Float]:
    """The score of each predicted span, and 1 where it is right. *Shape:* (spans,) both."""
    names = list(schema.types)
    found = decode([r.tag_logits for r in readings], [r.stream for r in readings], temperature)
    scores, right = [], []
    for reading, spans, document in zip(readings, found, documents, strict=True):
        gold, stream = _gold_keys(document), reading.stream
        for span in spans:
            start, end = int(stream.starts[span.first]), int(stream.ends[span.last])
            key = int(stream.fields[span.first]), start, end, names[span.type]
            scores.append(span.score)
            right.append(float(key in gold))
    return np.array(scores), np.array(right)


def expected_calibration_error(scores: Float, right: Float, bins: int = 10) -> float:
    """Mean gap between score and accuracy over equal-width bins, weighted by their size."""
    if not len(scores):
        return float("nan")
    bin_of = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [
        abs(scores[bin_of == b].mean() - right[bin_of == b].mean()) * (bin_of == b).mean()
        for b in np.unique(bin_of)
    ]
    return float(sum(gaps))


def _folds(size: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Rows to fit on and rows to judge; every row is judged once, but a single one never.

    It has no others to fit on.
    """
    fold_of = np.random.default_rng(13).permutation(size) % FOLDS
    for fold in range(FOLDS):
        rest, judged = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        if len(rest) and len(judged):
            yield rest, judged


def _pick(
    readings: Sequence[Reading], documents: Sequence[AnnotatedDocument], rows: npt.NDArray[np.int64]
) -> tuple[list[Reading], list[AnnotatedDocument]]:
    return [readings[i] for i in rows], [documents[i] for i in rows]


def _gold_keys(document: AnnotatedDocument) -> set[tuple[int, int, int, str]]:
    return {
        (field, span.start, span.end, span.type)
        for field, spans in enumerate((document.title_entities, document.entities))
        for span in spans
    }


def _log_loss(scores: Float, right: Float) -> float:
    if not len(scores):
        return 0.0
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    return float(-(right * np.log(clipped) + (1 - right) * np.log(1 - clipped)).mean())


def _f1(predicted: npt.NDArray[np.bool_], gold: Float) -> Float:
    """F1 of each label. *Shape:* (documents, labels) both -> (labels,)."""
    hits = (predicted * gold).sum(axis=0)
    return np.asarray(2 * hits / np.maximum(predicted.sum(axis=0) + gold.sum(axis=0), 1))
