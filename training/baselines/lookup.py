"""The two baselines that learn nothing but counts: remembered surfaces, and one answer for all."""

from collections import Counter
from collections.abc import Iterator, Sequence

from training.corpus import AnnotatedDocument, Span
from training.predictions import Prediction


class SurfaceLookup:
    """Marks what training documents marked: the longest remembered surface wins, its commonest type.

    A surface is remembered if it was marked at least half as often as it stood in the training
    text at all, so that words which are names only now and then stay out.
    """

    def __init__(self, documents: Sequence[AnnotatedDocument]) -> None:
        annotated = [document for document in documents if document.known_types is None]
        marked: dict[str, Counter[str]] = {}
        for document in annotated:
            for kind, surface in document.mentions():
                marked.setdefault(surface, Counter())[kind] += 1
        self._longest = max((len(_words(surface)) for surface in marked), default=0)
        seen: Counter[str] = Counter()
        for document in annotated:
            for text in (document.title or "", document.text):
                stretches = (text[first:last] for first, last in _stretches(text, self._longest))
                seen.update(stretch for stretch in stretches if stretch in marked)
        self._types = {
            surface: kinds.most_common(1)[0][0]
            for surface, kinds in marked.items()
            if 2 * kinds.total() >= seen[surface]
        }

    def spans(self, text: str) -> tuple[Span, ...]:
        """Non-overlapping spans of a text."""
        found: list[Span] = []
        end = 0
        by_start: dict[int, list[int]] = {}
        for first, last in _stretches(text, self._longest):
            if text[first:last] in self._types:
                by_start.setdefault(first, []).append(last)
        for first in sorted(by_start):
            if first >= end:
                end = max(by_start[first])
                found.append(Span(first, end, self._types[text[first:end]]))
        return tuple(found)


def predict_lookup(
    train: Sequence[AnnotatedDocument], documents: Sequence[AnnotatedDocument]
) -> list[Prediction]:
    """Remembered surfaces as spans; as labels the commonest set of labels in training."""
    lookup = SurfaceLookup(train)
    majority = Counter(document.cats for document in train if document.cats).most_common(1)
    cats = majority[0][0] if majority else ()
    return [
        Prediction(
            id=document.id,
            entities=lookup.spans(document.text),
            title_entities=lookup.spans(document.title or ""),
            cats=cats or (),
        )
        for document in documents
    ]


def _words(text: str) -> list[tuple[int, int]]:
    """Words and single other signs, as offsets."""
    found: list[tuple[int, int]] = []
    for at, sign in enumerate(text):
        if sign.isspace():
            continue
        if found and found[-1][1] == at and sign.isalnum() and text[at - 1].isalnum():
            found[-1] = (found[-1][0], at + 1)
        else:
            found.append((at, at + 1))
    return found


def _stretches(text: str, longest: int) -> Iterator[tuple[int, int]]:
    """All runs of up to `longest` words."""
    words = _words(text)
    for i, (start, _) in enumerate(words):
        for _, end in words[i : i + longest]:
            yield start, end
