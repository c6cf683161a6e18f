"""How well a model reads annotated documents, measured through the serving engine."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving import shape
from serving.analyzer import Analyzer, Reading
from serving.document_head import choose, probabilities
from serving.errors import DocumentError, TrainingError
from serving.results import Options
from training import calibrate
from training.corpus import AnnotatedDocument, Span
from training.examples import gold_tags
from training.metrics import Keys, Scores, bootstrap_interval, score
from training.schema import Schema

_DOCUMENTS_AT_ONCE = 64
_SOURCE_DOCUMENTS = 10


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one model on one set of documents."""

    documents: int
    thresholds: str
    """How label thresholds were had: "cross-fitted" on these documents, or the "model"'s own."""
    gold_spans: Keys
    """Of the documents whose spans are annotated."""
    predicted_spans: Keys
    gold_labels: Keys
    """Of the documents whose labels are known."""
    predicted_labels: Keys
    span_calibration_error: float
    label_calibration_error: float
    unreachable_spans: int
    """Gold spans whose borders fall inside a word of the tokenizer: no tag can reach them."""
    span_f1_by_source: dict[str, tuple[int, float]]
    """Documents and span micro-F1 of each source with enough documents to say something."""

    @property
    def spans(self) -> Scores:
        """Strict span scores."""
        return score(self.gold_spans, self.predicted_spans)

    @property
    def labels(self) -> Scores:
        """Document label scores."""
        return score(self.gold_labels, self.predicted_labels)

    def span_interval(self) -> tuple[float, float]:
        """95% bootstrap interval of span micro-F1."""
        return bootstrap_interval(self.gold_spans, self.predicted_spans, macro=False)

    def label_interval(self) -> tuple[float, float]:
        """95% bootstrap interval of label macro-F1."""
        return bootstrap_interval(self.gold_labels, self.predicted_labels, macro=True)

    def summary(self) -> dict[str, object]:
        """What goes into reports, as plain JSON values."""
        return {
            "documents": self.documents,
            "span_micro_f1": rounded(self.spans.micro.f1),
            "span_micro_f1_interval": [rounded(x) for x in self.span_interval()],
            "span_precision": rounded(self.spans.micro.precision),
            "span_recall": rounded(self.spans.micro.recall),
            "label_macro_f1": rounded(self.labels.macro_f1),
            "label_macro_f1_interval": [rounded(x) for x in self.label_interval()],
            "label_thresholds": self.thresholds,
            "span_calibration_error": rounded(self.span_calibration_error),
            "label_calibration_error": rounded(self.label_calibration_error),
            "gold_spans": sum(map(len, self.gold_spans)),
            "unreachable_spans": self.unreachable_spans,
            "sources": {
                source: {"documents": documents, "span_micro_f1": rounded(f1)}
                for source, (documents, f1) in self.span_f1_by_source.items()
            },
            "types": _table(self.spans),
            "labels": _table(self.labels),
        }


@dataclass(frozen=True, slots=True)
class LabelledReadings:
    """Documents, what the model read in them, and what their annotation says of labels."""

    documents: list[AnnotatedDocument]
    readings: list[Reading]

    def label_logits(self) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        return np.array([reading.label_logits() for reading in self.readings])

    def labelled(self) -> "LabelledReadings":
        """The documents whose labels are known."""
        return self._where([document.cats is not None for document in self.documents])

    def annotated(self) -> "LabelledReadings":
        """The documents whose spans are annotated, all types of them."""
        return self._where([document.known_types is None for document in self.documents])

    def _where(self, kept: Sequence[bool]) -> "LabelledReadings":
        rows = [i for i, keep in enumerate(kept) if keep]
        return LabelledReadings([self.documents[i] for i in rows], [self.readings[i] for i in rows])


def read(
    analyzer: Analyzer,
    documents: Sequence[AnnotatedDocument],
    schema: Schema,
    progress: Callable[[int], None] = lambda done: None,
) -> LabelledReadings:
    """Run the engine over documents. Raises TrainingError at one that it cannot read."""
    readings: list[Reading] = []
    for at in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        chunk = documents[at : at + _DOCUMENTS_AT_ONCE]
        read_chunk = analyzer.read([document.document() for document in chunk])
        for document, reading in zip(chunk, read_chunk, strict=True):
            if isinstance(reading, DocumentError):
                raise TrainingError(f"document {document.id} cannot be read: {reading.message}")
            readings.append(reading)
        progress(len(readings))
    return LabelledReadings(list(documents), readings)


def evaluate(analyzer: Analyzer, data: LabelledReadings, schema: Schema, *, cross_fit: bool) -> Evaluation:
    """Score spans and labels.

    `cross_fit` judges each document under temperatures and thresholds fitted on other documents
    of the same set: for dev sets, which the model's own were fitted on.
    """
    annotated, labelled = data.annotated(), data.labelled()
    entities = [
        shape.entities(d.document(), r.stream, found, analyzer.config.type_names(), Options())
        for d, r, found in zip(
            annotated.documents, annotated.readings, analyzer.spans(annotated.readings), strict=True
        )
    ]
    got: Keys = [{(e.field, e.start, e.end, e.type) for e in found} for found in entities]
    gold: Keys = [set(span_keys(document)) for document in annotated.documents]
    chosen, label_scores = _labels(analyzer, labelled, schema, cross_fit=cross_fit)
    if cross_fit:
        span_scores = calibrate.cross_fitted_span_scores(annotated.readings, annotated.documents, schema)
    else:
        temperature = analyzer.config.temperatures.spans
        span_scores = calibrate.span_scores(annotated.readings, annotated.documents, schema, temperature)
    names = analyzer.config.label_set().names
    gold_matrix = calibrate.label_matrix(labelled.documents, schema)
    return Evaluation(
        documents=len(data.documents),
        thresholds="cross-fitted" if cross_fit else "model",
        gold_spans=gold,
        predicted_spans=got,
        gold_labels=[{(name,) for name in d.cats or ()} for d in labelled.documents],
        predicted_labels=[{(names[i],) for i in held} for held in chosen],
        span_calibration_error=calibrate.expected_calibration_error(*span_scores),
        label_calibration_error=calibrate.expected_calibration_error(
            label_scores.ravel(), gold_matrix.ravel()
        ),
        unreachable_spans=sum(
            len(gold_tags(d, r.stream, schema).unreachable)
            for d, r in zip(annotated.documents, annotated.readings, strict=True)
        ),
        span_f1_by_source=by_source(annotated.documents, gold, got),
    )


def _labels(
    analyzer: Analyzer, data: LabelledReadings, schema: Schema, *, cross_fit: bool
) -> tuple[list[list[int]], npt.NDArray[np.float64]]:
    """Labels that hold, and all scores, of the documents whose labels are known."""
    labels = analyzer.config.label_set()
    if not data.documents:
        return [], np.zeros((0, len(labels.names)))
    logits = data.label_logits()
    if cross_fit:
        gold = calibrate.label_matrix(data.documents, schema)
        fitted = calibrate.cross_fitted_labels(logits, gold, labels.exclusive())
        return fitted.chosen, fitted.scores
    scores = probabilities(logits, labels.temperature).round(shape.SCORE_DECIMALS)
    return [choose(row, labels.thresholds, labels.exclusive()) for row in scores], scores


def by_source(documents: Sequence[AnnotatedDocument], gold: Keys, got: Keys) -> dict[str, tuple[int, float]]:
    """Sources apart, because official releases repeat themselves and are easier than news."""
    sizes = Counter(document.source for document in documents)
    found = {}
    for source, size in sizes.most_common():
        if size >= _SOURCE_DOCUMENTS:
            rows = [i for i, document in enumerate(documents) if document.source == source]
            found[source] = size, score([gold[i] for i in rows], [got[i] for i in rows]).micro.f1
    return found


class HasSpans(Protocol):
    """A document or a prediction of one."""

    @property
    def entities(self) -> Sequence[Span]:
        """Spans of the text."""

    @property
    def title_entities(self) -> Sequence[Span]:
        """Spans of the title."""


def span_keys(document: HasSpans) -> Iterator[tuple[object, ...]]:
    """Each span as (field, start, end, type)."""
    for field, spans in (("title", document.title_entities), ("text", document.entities)):
        for span in spans:
            yield field, span.start, span.end, span.type


def _table(scores: Scores) -> dict[str, dict[str, float | int | None]]:
    return {
        name: {
            "precision": rounded(counts.precision),
            "recall": rounded(counts.recall),
            "f1": rounded(counts.f1),
            "gold": counts.gold,
        }
        for name, counts in scores.per_class.items()
    }


def rounded(value: float) -> float | None:
    """Four decimals; None where there is nothing to measure, for JSON knows no NaN."""
    return None if value != value else round(value, 4)
