"""The gate that a quantised graph must pass before it may ship."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.analyzer import Analyzer
from serving.document_head import probabilities
from serving.errors import DocumentError, TrainingError
from serving.results import Document
from training.evaluate import LabelledReadings, evaluate, read
from training.schema import Schema

SPAN_F1_LOSS = LABEL_F1_LOSS = 0.005
"""What the speed of a quantised graph may cost."""
SCORE_CHANGE = 1e-3
"""How far a score may move with the documents that a document is batched with."""
_BATCH_MATES = 32
_COMPANIES = 4


@dataclass(frozen=True, slots=True)
class GateReport:
    """What a variant costs against fp32, and whether it may ship."""

    span_f1_loss: float
    """NaN if no spans are annotated."""
    label_f1_loss: float
    """NaN if no label has enough gold documents to be judged."""
    largest_score_change: float

    @property
    def passed(self) -> bool:
        """It is as accurate, and gives the same answer whatever the batch."""
        losses = ((self.span_f1_loss, SPAN_F1_LOSS), (self.label_f1_loss, LABEL_F1_LOSS))
        judged = [loss <= most for loss, most in losses if not math.isnan(loss)]
        return bool(judged) and all(judged) and self.largest_score_change <= SCORE_CHANGE

    def line(self) -> str:
        """What a person is told."""
        spans, labels = map(_changed, (self.span_f1_loss, self.label_f1_loss))
        return (
            f"against fp32, span F1 {spans}, label F1 {labels}; "
            f"scores move by up to {self.largest_score_change:.4f} with the batch"
        )


def _changed(loss: float) -> str:
    return "not judged" if math.isnan(loss) else f"{-loss:+.4f}"


def compare(reference: Analyzer, variant: Analyzer, data: LabelledReadings, schema: Schema) -> GateReport:
    """Evaluate `variant` on the documents that `reference` has read, then alone and in company.

    Both under thresholds cross-fitted on these documents: a variant that ships is calibrated anew.
    """
    some = [document.document() for document in data.documents[:_BATCH_MATES]]
    before = evaluate(reference, data, schema, cross_fit=True)
    after = evaluate(variant, read(variant, data.documents, schema), schema, cross_fit=True)
    return GateReport(
        span_f1_loss=before.spans.micro.f1 - after.spans.micro.f1,
        label_f1_loss=before.labels.macro_f1 - after.labels.macro_f1,
        largest_score_change=batch_sensitivity(variant, some),
    )


def batch_sensitivity(analyzer: Analyzer, documents: Sequence[Document]) -> float:
    """How far any tag's or label's probability moves between a document alone and in random company.

    Raises TrainingError at a document that cannot be read.
    """
    alone = [_scores(analyzer, [document])[0] for document in documents]
    order = np.random.default_rng(0)
    largest = 0.0
    for _ in range(_COMPANIES):
        company = order.permutation(len(documents))[: order.integers(1, len(documents) + 1)]
        together = _scores(analyzer, [documents[i] for i in company])
        for i, scores in zip(company, together, strict=True):
            largest = max(largest, float(np.abs(scores - alone[i]).max()))
    return largest


def _scores(analyzer: Analyzer, documents: Sequence[Document]) -> list[npt.NDArray[np.float64]]:
    """The probability of each tag of each token, then of each label. *Shape:* (scores,) a document."""
    temperatures = analyzer.config.temperatures
    scores = []
    for reading in analyzer.read(documents):
        if isinstance(reading, DocumentError):
            raise TrainingError(f"a document of the gate cannot be read: {reading.message}")
        tags = np.exp(reading.tag_logits.astype(np.float64) / temperatures.spans)
        tags /= tags.sum(axis=1, keepdims=True)
        labels = probabilities(reading.label_logits(), temperatures.labels)
        scores.append(np.concatenate([tags.ravel(), labels]))
    return scores
