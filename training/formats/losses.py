"""What a conversion could not carry over."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from training.corpus import AnnotatedDocument

_FIELDS = ("title", "title_entities", "cats", "published_at", "genre", "source")


@dataclass(frozen=True, slots=True)
class Losses:
    """Counts by kind of loss, for example "title" or "span that splits a token"."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, number: int = 1) -> None:
        """Count a loss."""
        if number:
            self.counts[kind] += number

    def fields(self, document: AnnotatedDocument, kept: set[str]) -> None:
        """Count each filled field of a document that a format has no place for."""
        for name in _FIELDS:
            if name not in kept and getattr(document, name):
                self.add(name)

    def lines(self) -> Iterator[str]:
        """One line a kind of loss."""
        for kind, number in sorted(self.counts.items()):
            yield f"not carried over: {kind} ({number}×)"
