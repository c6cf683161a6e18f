"""What is read: a fixed sample of real articles, cut into slices of different make."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.results import Document
from training.corpus import AnnotatedDocument

Kind = Literal["short", "mixed", "long", "words"]

_SHORT_WORDS = 100
"""The shortest articles of the sample serve as short texts, cut to so many words."""
_ARTICLES_IN_A_LONG_ONE = 10


@dataclass(frozen=True, slots=True)
class Size:
    """How much is read: the whole, or little enough to see within minutes that everything runs."""

    short_calls: int
    mixed: tuple[int, ...]
    """Documents of each slice of mixed lengths."""
    long: int
    lengths: tuple[int, ...]
    """Words of a document in each slice of one length."""
    words_of_a_length: int
    rounds: int
    rounds_of_large: int
    """Rounds of slices that take minutes: of a thousand documents, or of one length."""
    dev: int | None
    """Documents that accuracy is measured on; None: all."""


FULL = Size(20, (64, 1024), 16, (32, 64, 128, 256, 512, 1024, 2048, 4096), 8192, 7, 3, None)
QUICK = Size(4, (8, 16), 2, (32, 128, 512), 512, 2, 2, 30)


@dataclass(frozen=True, slots=True)
class Slice:
    """Documents to read; each inner sequence is one call."""

    name: str
    kind: Kind
    calls: Sequence[Sequence[Document]]
    rounds: int

    @property
    def documents(self) -> list[Document]:
        """All of them."""
        return [document for call in self.calls for document in call]

    @property
    def words(self) -> int:
        """Stretches between spaces."""
        return sum(len(document.text.split()) for document in self.documents)


def slices(articles: Sequence[AnnotatedDocument], size: Size, seed: int) -> list[Slice]:
    """All slices. The same articles, size and seed give the same slices."""
    order = random.Random(seed)
    drawn = shuffled(articles, order)
    made = [Slice("short_1", "short", _short(articles, order, size.short_calls), size.rounds)]
    for count in size.mixed:
        rounds = size.rounds if count == min(size.mixed) else size.rounds_of_large
        made.append(Slice(f"mixed_{count}", "mixed", [_numbered(drawn, count)], rounds))
    long = [
        Document("\n\n".join(next(drawn) for _ in range(_ARTICLES_IN_A_LONG_ONE)), id=str(number))
        for number in range(size.long)
    ]
    made.append(Slice(f"long_{size.long}", "long", [long], size.rounds_of_large))
    for length in size.lengths:
        count = max(1, size.words_of_a_length // length)
        texts = [Document(of_length(drawn, length), id=str(number)) for number in range(count)]
        made.append(Slice(f"words_{length}", "words", [texts], size.rounds_of_large))
    return made


def shuffled(articles: Sequence[AnnotatedDocument], order: random.Random) -> Iterator[str]:
    """Texts in random order; none comes again before all have come."""
    while True:
        for article in order.sample(articles, len(articles)):
            yield article.text


def _numbered(texts: Iterator[str], count: int) -> list[Document]:
    return [Document(next(texts), id=str(number)) for number in range(count)]


def _short(articles: Sequence[AnnotatedDocument], order: random.Random, calls: int) -> list[list[Document]]:
    """One short text a call."""
    shortest = sorted((article.text for article in articles), key=lambda text: len(text.split()))
    chosen = order.sample(shortest[: 4 * calls], min(calls, len(shortest)))
    return [[Document(_cut(text, _SHORT_WORDS), id=str(n))] for n, text in enumerate(chosen)]


def of_length(texts: Iterator[str], words: int) -> str:
    """Articles one after another, cut to exactly `words` words."""
    text = next(texts)
    while len(text.split()) < words:
        text += "\n\n" + next(texts)
    return _cut(text, words)


def _cut(text: str, words: int) -> str:
    """The first words, with the spaces and line breaks between them."""
    at = 0
    for word in text.split()[:words]:
        at = text.index(word, at) + len(word)
    return text[:at]
