"""How well a model reads annotated documents, measured through the serving engine."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving import shape
from serving.analyzer import Analyzer, Reading
from serving.document_head import LabelSet, choose, probabilities
from serving.errors import DocumentError, TrainingError
from serving.results import Options
from training import calibrate
from training.corpus import AnnotatedDocument
from training.examples import gold_tags
from training.metrics import Scores, bootstrap_interval, score
from training.schema import Schema

_DOCUMENTS_AT_ONCE = 128
_SOURCE_DOCUMENTS = 10

Keys = list[set[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one model on one set of documents."""

    documents: int
    spans: Scores
    span_interval: tuple[float, float]
    labels: Scores
    label_interval: tuple[float, float]
    thresholds: str
    """How label thresholds were had: "cross-fitted" on these documents, or the "model"'s own."""
    span_calibration_error: float
    label_calibration_error: float
    gold_spans: int
    unreachable_spans: int
    """Gold spans whose borders fall inside a word of the tokenizer: no tag can reach them."""
    span_f1_by_source: dict[str, tuple[int, float]]
    """Documents and span micro-F1 of each source with enough documents to say something."""
    gold_keys: Keys
    predicted_keys: Keys

    def summary(self) -> dict[str, object]:
        """What goes into reports, as plain JSON values."""
        return {
            "documents": self.documents,
            "span_micro_f1": _rounded(self.spans.micro.f1),
            "span_micro_f1_interval": [_rounded(x) for x in self.span_interval],
            "span_precision": _rounded(self.spans.micro.precision),
            "span_recall": _rounded(self.spans.micro.recall),
            "label_macro_f1": _rounded(self.labels.macro_f1),
            "label_macro_f1_interval": [_rounded(x) for x in self.label_interval],
            "label_thresholds": self.thresholds,
            "span_calibration_error": _rounded(self.span_calibration_error),
            "label_calibration_error": _rounded(self.label_calibration_error),
            "gold_spans": self.gold_spans,
            "unreachable_spans": self.unreachable_spans,
            "sources": {
                source: {"documents": documents, "span_micro_f1": _rounded(f1)}
                for source, (documents, f1) in self.span_f1_by_source.items()
            },
            "types": _table(self.spans),
            "labels": _table(self.labels),
        }


@dataclass(frozen=True, slots=True)
class LabelledReadings:
    """Documents with labels, what the model read in them, and the gold as a matrix."""

    documents: list[AnnotatedDocument]
    readings: list[Reading]
    label_logits: npt.NDArray[np.float64]
    gold_labels: npt.NDArray[np.float64]


def read(analyzer: Analyzer, documents: Sequence[AnnotatedDocument], schema: Schema) -> LabelledReadings:
    """Run the engine over documents. Raises TrainingError at one that it cannot read."""
    readings: list[Reading] = []
    for at in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        chunk = documents[at : at + _DOCUMENTS_AT_ONCE]
        for document, reading in zip(chunk, analyzer.read([d.document() for d in chunk]), strict=True):
            if isinstance(reading, DocumentError):
                raise TrainingError(f"document {document.id} cannot be read: {reading.message}")
            readings.append(reading)
    logits = np.array([reading.label_logits() for reading in readings])
    return LabelledReadings(
        list(documents),
        readings,
        logits.reshape(len(readings), len(schema.labels)),
        calibrate.label_matrix(documents, schema),
    )


def evaluate(analyzer: Analyzer, data: LabelledReadings, schema: Schema, *, cross_fit: bool) -> Evaluation:
    """Score spans and labels.

    `cross_fit` chooses labels with thresholds fitted on the other documents of the same set:
    for dev sets, which the model's own thresholds were fitted on.
    """
    spans = analyzer.spans(data.readings)
    entities = [
        shape.entities(d.document(), r.stream, found, analyzer.config.type_names(), Options())
        for d, r, found in zip(data.documents, data.readings, spans, strict=True)
    ]
    got: Keys = [{(e.field, e.start, e.end, e.type) for e in found} for found in entities]
    gold: Keys = [set(_span_keys(document)) for document in data.documents]
    label_set = analyzer.config.label_set()
    chosen = _labels(data, label_set, cross_fit=cross_fit)
    names = label_set.names
    got_labels: Keys = [{(names[i],) for i in held} for held in chosen]
    gold_labels: Keys = [{(name,) for name in d.cats or ()} for d in data.documents]
    unreachable = sum(
        len(gold_tags(d, r.stream, schema).unreachable)
        for d, r in zip(data.documents, data.readings, strict=True)
    )
    span_scores = np.array([e.score for found in entities for e in found])
    right = [
        float((e.field, e.start, e.end, e.type) in wanted)
        for found, wanted in zip(entities, gold, strict=True)
        for e in found
    ]
    label_scores = probabilities(data.label_logits, label_set.temperature)
    return Evaluation(
        documents=len(data.documents),
        spans=score(gold, got),
        span_interval=bootstrap_interval(gold, got, macro=False),
        labels=score(gold_labels, got_labels),
        label_interval=bootstrap_interval(gold_labels, got_labels, macro=True),
        thresholds="cross-fitted" if cross_fit else "model",
        span_calibration_error=calibrate.expected_calibration_error(span_scores, np.array(right)),
        label_calibration_error=calibrate.expected_calibration_error(
            label_scores.ravel(), data.gold_labels.ravel()
        ),
        gold_spans=sum(map(len, gold)),
        unreachable_spans=unreachable,
        span_f1_by_source=_by_source(data.documents, gold, got),
        gold_keys=gold,
        predicted_keys=got,
    )


def _labels(data: LabelledReadings, labels: LabelSet, *, cross_fit: bool) -> list[list[int]]:
    if cross_fit:
        return calibrate.cross_fitted_labels(data.label_logits, data.gold_labels, labels.exclusive())
    scores = probabilities(data.label_logits, labels.temperature).round(shape.SCORE_DECIMALS)
    return [choose(row, labels.thresholds, labels.exclusive()) for row in scores]


def _by_source(documents: Sequence[AnnotatedDocument], gold: Keys, got: Keys) -> dict[str, tuple[int, float]]:
    """Sources apart, because official releases repeat themselves and are easier than news."""
    sizes = Counter(document.source for document in documents)
    found = {}
    for source, size in sizes.most_common():
        if size >= _SOURCE_DOCUMENTS:
            rows = [i for i, document in enumerate(documents) if document.source == source]
            found[source] = size, score([gold[i] for i in rows], [got[i] for i in rows]).micro.f1
    return found


def _span_keys(document: AnnotatedDocument) -> Iterator[tuple[object, ...]]:
    for field, spans in (("title", document.title_entities), ("text", document.entities)):
        for span in spans:
            yield field, span.start, span.end, span.type


def _table(scores: Scores) -> dict[str, dict[str, float | int]]:
    return {
        name: {
            "precision": _rounded(counts.precision),
            "recall": _rounded(counts.recall),
            "f1": _rounded(counts.f1),
            "gold": counts.gold,
        }
        for name, counts in scores.per_class.items()
    }


def _rounded(value: float) -> float:
    return round(value, 4)
