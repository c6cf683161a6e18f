"""The gate that a quantised graph must pass before it may ship."""

from dataclasses import dataclass

import numpy as np

from serving.analyzer import Analyzer
from serving.document_head import probabilities
from training.evaluate import LabelledReadings, evaluate, read
from training.schema import Schema

SPAN_F1_LOSS = 0.003
"""What "equal accuracy" allows."""
SCORE_CHANGE = 1e-3
"""How far a label's score may move with the documents it is batched with."""
_BATCH_MATES = 32


@dataclass(frozen=True, slots=True)
class GateReport:
    """What a variant costs against fp32, and whether it may ship."""

    span_f1_loss: float
    label_f1_loss: float
    largest_score_change: float

    @property
    def passed(self) -> bool:
        """Both conditions hold: accuracy, and the same answer whatever the batch."""
        return self.span_f1_loss <= SPAN_F1_LOSS and self.largest_score_change <= SCORE_CHANGE

    def line(self) -> str:
        """What a person is told."""
        return (
            f"against fp32, span F1 {-self.span_f1_loss:+.4f}, label F1 {-self.label_f1_loss:+.4f}; "
            f"label scores move by up to {self.largest_score_change:.4f} with the batch"
        )


def compare(reference: Analyzer, variant: Analyzer, data: LabelledReadings, schema: Schema) -> GateReport:
    """Evaluate `variant` on the documents that `reference` has read, then alone and in company."""
    before = evaluate(reference, data, schema, cross_fit=True)
    after = evaluate(variant, read(variant, data.documents, schema), schema, cross_fit=True)
    return GateReport(
        span_f1_loss=before.spans.micro.f1 - after.spans.micro.f1,
        label_f1_loss=before.labels.macro_f1 - after.labels.macro_f1,
        largest_score_change=batch_sensitivity(variant, data, schema),
    )


def batch_sensitivity(analyzer: Analyzer, data: LabelledReadings, schema: Schema) -> float:
    """The largest difference in a label's score between a document alone and in a batch."""
    documents = data.documents[:_BATCH_MATES]
    together = read(analyzer, documents, schema).label_logits()
    alone = np.concatenate([read(analyzer, [d], schema).label_logits() for d in documents])
    temperature = analyzer.config.temperatures.labels
    change = probabilities(together, temperature) - probabilities(alone, temperature)
    return float(np.abs(change).max())
