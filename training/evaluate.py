"""How well a model reads annotated documents, measured through the serving engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving import shape
from serving.analyzer import Analyzer, Reading
from serving.document_head import choose, probabilities
from serving.errors import DocumentError, TrainingError
from serving.results import Options
from training import calibrate
from training.corpus import AnnotatedDocument
from training.evaluation import Evaluation, span_keys
from training.examples import gold_tags
from training.metrics import Keys
from training.schema import Schema

_DOCUMENTS_AT_ONCE = 64


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
        span_documents=annotated.documents,
        gold_spans=gold,
        predicted_spans=got,
        label_documents=labelled.documents,
        gold_labels=[{(name,) for name in d.cats or ()} for d in labelled.documents],
        predicted_labels=[{(names[i],) for i in held} for held in chosen],
        span_scores=span_scores,
        label_scores=(label_scores.ravel(), gold_matrix.ravel()),
        unreachable_spans=sum(
            len(gold_tags(d, r.stream, schema).unreachable)
            for d, r in zip(annotated.documents, annotated.readings, strict=True)
        ),
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
