"""How well each system reads, from the very answers that were timed."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.corpus import AnnotatedDocument, Span
from training.evaluation import rounded, span_keys
from training.metrics import score
from training.predictions import Prediction, evaluate_predictions
from training.schema import Schema

Answers = Sequence[Mapping[str, Any]]
"""Rows of a worker's `answers`."""


def predictions(answers: Answers) -> dict[str, Prediction]:
    """By document id."""
    return {
        row["id"]: Prediction(
            id=row["id"],
            entities=tuple(Span(*span) for span in row["entities"]),
            title_entities=tuple(Span(*span) for span in row["title_entities"]),
            cats=tuple(row["cats"]),
            logits=None if row["logits"] is None else tuple(row["logits"]),
        )
        for row in answers
    }


EQUAL_F1 = 0.003
"""Span F1 that systems of "equal accuracy" may lie apart."""


def accuracy(
    documents: Sequence[AnnotatedDocument], answers: Answers, ours: Answers, schema: Schema
) -> dict[str, object]:
    """Strict span F1, label F1 under cross-fitted thresholds, and how far spans are those of `ours`.

    "equal_accuracy": span F1 is not below ours by more than EQUAL_F1.
    Label figures are None for a system without a document head.
    """
    theirs, own = predictions(answers), predictions(ours)
    result = evaluate_predictions(documents, theirs, schema, cross_fit=True)
    our_f1 = evaluate_predictions(documents, own, schema, cross_fit=False).spans.micro.f1
    has_labels = all(prediction.logits is not None for prediction in theirs.values())
    same = score(
        [set(span_keys(own[document.id])) for document in documents],
        [set(span_keys(theirs[document.id])) for document in documents],
    )
    return {
        "documents": result.documents,
        "span_micro_f1": rounded(result.spans.micro.f1),
        "span_micro_f1_interval_95": [rounded(x) for x in result.span_intervals().micro],
        "equal_accuracy": bool(our_f1 - result.spans.micro.f1 <= EQUAL_F1),
        "label_macro_f1": rounded(result.labels.macro_f1) if has_labels else None,
        "label_macro_f1_interval_95": [rounded(x) for x in result.label_intervals().macro]
        if has_labels
        else None,
        "label_thresholds": result.thresholds if has_labels else None,
        "span_f1_against_embargo": rounded(same.micro.f1),
    }
