"""Where a system's spans go wrong: missed, spurious, wrong border, wrong type."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from training.corpus import AnnotatedDocument
from training.evaluation import Evaluation

Kind = Literal["missed", "spurious", "border", "type", "border and type"]
Key = tuple[str, int, int, str]
"""Field, start, end, type."""

OUTSIDE = "–"
"""Stands for "no span" in the confusion of types."""


@dataclass(frozen=True, slots=True)
class SpanError:
    """One wrong or missing span; an overlapping pair of gold and predicted span is one error."""

    kind: Kind
    document: AnnotatedDocument
    gold: Key | None
    got: Key | None

    def surface(self, key: Key | None) -> str:
        """The text of one of its spans."""
        return _text(self.document, key[0])[key[1] : key[2]] if key else ""

    def context(self, width: int = 60) -> tuple[str, str, str]:
        """The text before, of, and after the error."""
        keys = [key for key in (self.gold, self.got) if key]
        text = _text(self.document, keys[0][0])
        start, end = min(k[1] for k in keys), max(k[2] for k in keys)
        return text[max(0, start - width) : start], text[start:end], text[end : end + width]


def span_errors(result: Evaluation) -> Iterator[SpanError]:
    """Every error, document by document. A gold span is paired with the span that is most like it."""
    for document, gold, got in zip(
        result.span_documents, result.gold_spans, result.predicted_spans, strict=True
    ):
        missing, wrong = sorted(map(_key, gold - got)), sorted(map(_key, got - gold))
        for key in missing:
            touching = [other for other in wrong if _overlap(key, other) > 0]
            if not touching:
                yield SpanError("missed", document, key, None)
                continue
            best = _most_like(key, touching)
            wrong.remove(best)
            yield SpanError(_kind(key, best), document, key, best)
        for key in wrong:
            yield SpanError("spurious", document, None, key)


def type_confusion(result: Evaluation) -> Counter[tuple[str, str]]:
    """How often a gold type was read as another: (gold, got), with OUTSIDE for none."""
    confusion: Counter[tuple[str, str]] = Counter()
    for gold, got in zip(result.gold_spans, result.predicted_spans, strict=True):
        confusion.update((_key(key)[3], _key(key)[3]) for key in gold & got)
    for error in span_errors(result):
        pair = (error.gold[3] if error.gold else OUTSIDE, error.got[3] if error.got else OUTSIDE)
        confusion[pair] += 1
    return confusion


def _kind(gold: Key, got: Key) -> Kind:
    if gold[:3] == got[:3]:
        return "type"
    return "border" if gold[3] == got[3] else "border and type"


def _most_like(key: Key, others: list[Key]) -> Key:
    """Of the same type if there is one, and with the largest overlap."""
    return max(others, key=lambda other: (other[3] == key[3], _overlap(key, other)))


def _overlap(a: Key, b: Key) -> int:
    """Characters that both have."""
    return min(a[2], b[2]) - max(a[1], b[1]) if a[0] == b[0] else 0


def _key(key: tuple[object, ...]) -> Key:
    field, start, end, kind = key
    return str(field), int(str(start)), int(str(end)), str(kind)


def _text(document: AnnotatedDocument, field: str) -> str:
    return (document.title or "") if field == "title" else document.text
