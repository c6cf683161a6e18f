"""What was expected and what was got on one set of documents, and every figure that follows."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training import calibrate
from training.corpus import AnnotatedDocument, Span
from training.metrics import Intervals, Keys, Scores, bootstrap, score

Float = npt.NDArray[np.float64]
ScoresAndRight = tuple[Float, Float]
"""Scores of predictions, and 1 where a prediction is right. *Shape:* (predictions,) both."""

_LEAST_DOCUMENTS = 10
"""Of a source or genre that is reported apart."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One system on one set of documents."""

    documents: int
    thresholds: str
    """How label thresholds were had: "cross-fitted" on these documents, the "model"'s own, or
    "its own", another system's."""
    span_documents: Sequence[AnnotatedDocument]
    """Those whose spans are annotated."""
    gold_spans: Keys
    predicted_spans: Keys
    label_documents: Sequence[AnnotatedDocument]
    """Those whose labels are known."""
    gold_labels: Keys
    predicted_labels: Keys
    span_scores: ScoresAndRight
    """Of predicted spans; empty for a system without scores."""
    label_scores: ScoresAndRight
    """Of every label of every document; empty for a system without scores."""
    unreachable_spans: int
    """Gold spans whose borders fall inside a word of the tokenizer: no tag can reach them."""

    @property
    def spans(self) -> Scores:
        """Strict span scores."""
        return score(self.gold_spans, self.predicted_spans)

    @property
    def labels(self) -> Scores:
        """Document label scores."""
        return score(self.gold_labels, self.predicted_labels)

    def span_intervals(self) -> Intervals:
        """95% bootstrap intervals over documents."""
        return bootstrap(self.gold_spans, self.predicted_spans)

    def label_intervals(self) -> Intervals:
        """95% bootstrap intervals over documents."""
        return bootstrap(self.gold_labels, self.predicted_labels)

    @property
    def span_calibration_error(self) -> float:
        """Expected calibration error of span scores; NaN without any."""
        return calibrate.expected_calibration_error(*self.span_scores)

    @property
    def label_calibration_error(self) -> float:
        """Expected calibration error of label scores; NaN without any."""
        return calibrate.expected_calibration_error(*self.label_scores)

    def span_f1_by(self, group: Callable[[AnnotatedDocument], str]) -> dict[str, tuple[int, float]]:
        """Documents and span micro-F1 of each group with enough documents to say something.

        Sources apart, because official releases repeat themselves and are easier than news.
        """
        groups = [group(document) for document in self.span_documents]
        found = {}
        for name, size in Counter(groups).most_common():
            if size >= _LEAST_DOCUMENTS:
                rows = [i for i, other in enumerate(groups) if other == name]
                gold, got = ([keys[i] for i in rows] for keys in (self.gold_spans, self.predicted_spans))
                found[name] = size, score(gold, got).micro.f1
        return found

    def summary(self) -> dict[str, object]:
        """What goes into reports, as plain JSON values."""
        return {
            "documents": self.documents,
            "span_micro_f1": rounded(self.spans.micro.f1),
            "span_micro_f1_interval": [rounded(x) for x in self.span_intervals().micro],
            "span_precision": rounded(self.spans.micro.precision),
            "span_recall": rounded(self.spans.micro.recall),
            "label_macro_f1": rounded(self.labels.macro_f1),
            "label_macro_f1_interval": [rounded(x) for x in self.label_intervals().macro],
            "label_thresholds": self.thresholds,
            "span_calibration_error": rounded(self.span_calibration_error),
            "label_calibration_error": rounded(self.label_calibration_error),
            "gold_spans": sum(map(len, self.gold_spans)),
            "unreachable_spans": self.unreachable_spans,
            "sources": {
                source: {"documents": documents, "span_micro_f1": rounded(f1)}
                for source, (documents, f1) in self.span_f1_by(lambda d: d.source).items()
            },
            "types": _table(self.spans),
            "labels": _table(self.labels),
        }


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


def rounded(value: float) -> float | None:
    """Four decimals; None where there is nothing to measure, for JSON knows no NaN."""
    return None if value != value else round(value, 4)


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
