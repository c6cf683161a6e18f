"""Parts through the engine, in pieces of a fixed size, the next part already waiting.

The engine gives the same bits for the same piece, whatever else it runs and on however many
threads. So a part has one result, and it does not matter when or where it is scored.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from serving.errors import ScoreError
from serving.results import Analysis, Document, Problem
from serving.score.parts import Item, Part

Analyze = Callable[[list[Document]], list[Analysis]]
"""Must depend on its documents alone, down to the bit: `Analyzer.analyze(…, alone=True)`."""

_PIECE_DOCUMENTS = 256
_PIECE_CHARACTERS = 500_000
_PIECES_AT_ONCE = 2
"""While one runs, the next is tokenised."""
_PARTS_WAITING = 1
"""Beside the part whose result is awaited: the engine has work while that one is written."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that has no result, and why."""

    item: Item
    problem: Problem


class Counts(BaseModel):
    """What became of rows. Each is counted where it happens, so `read` need not be `written` + `rejected`:
    `check_reconciled` says whether it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: int = 0
    written: int = 0
    rejected: int = 0
    repeated: int = 0
    tokens: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(**{name: value + getattr(other, name) for name, value in self})


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of one part, in the order of its rows."""

    part: Part
    results: tuple[tuple[Item, Analysis] | Reject, ...]
    repeated: int
    """Documents that an earlier one says word for word; it was scored for both."""
    tokens: int
    """Read by the model."""

    def counts(self, *, written: int, rejected: int) -> Counts:
        """In numbers, with those of the lines that were made of it."""
        return Counts(
            read=len(self.part.items),
            written=written,
            rejected=rejected,
            repeated=self.repeated,
            tokens=self.tokens,
        )


def check_reconciled(counts: Counts, read: int) -> None:
    """Raise ScoreError unless each of the rows that the inputs gave was written or rejected, once."""
    if not read == counts.read == counts.written + counts.rejected:
        raise ScoreError(
            f"the inputs gave {read} rows; {counts.read} were scored, {counts.written} written and "
            f"{counts.rejected} rejected. This is a fault in embargo, please report it; nothing was put "
            "together."
        )


def score_parts(parts: Iterable[Part], analyze: Analyze) -> Generator[Scored]:
    """Results in the order of the parts, on this machine's cores.

    One more part is read and in line than is asked for, so reading and writing cost no time as long
    as they are faster than the engine.
    """
    waiting: deque[tuple[Part, list[Future[list[Analysis]]]]] = deque()
    pool = ThreadPoolExecutor(_PIECES_AT_ONCE, thread_name_prefix="embargo-score")

    def next_scored() -> Scored:
        part, pieces = waiting.popleft()
        return as_scored(part, [analysis for piece in pieces for analysis in piece.result()])

    try:
        for part in parts:
            waiting.append((part, [pool.submit(analyze, p) for p in pieces_of(documents_of(part))]))
            if len(waiting) > _PARTS_WAITING:
                yield next_scored()
        while waiting:
            yield next_scored()
    finally:
        pool.shutdown(cancel_futures=True)


def as_read(document: Document) -> Document:
    """A document without the white space at its end, which says nothing and moves no offset."""
    text = document.text.rstrip() or document.text
    return document if len(text) == len(document.text) else replace(document, text=text)


def documents_of(part: Part) -> list[Document]:
    """What the engine gets of a part."""
    return [as_read(item.content) for item in part.items if isinstance(item.content, Document)]


def as_scored(part: Part, analyses: Sequence[Analysis]) -> Scored:
    """The part's result from that of each of `documents_of(part)`."""
    read = iter(analyses)
    found = (item.content if isinstance(item.content, Problem) else next(read) for item in part.items)
    results = tuple(map(as_result, part.items, found))
    tokens = sum(analysis.coverage.tokens for analysis in analyses if analysis.coverage)
    return Scored(part, results, 0, tokens)


def as_result(item: Item, found: Analysis | Problem) -> tuple[Item, Analysis] | Reject:
    """What becomes of a row."""
    if isinstance(found, Problem):
        return Reject(item, found)
    if found.error:
        return Reject(item, found.error)
    assert item.id is not None
    return item, replace(found, id=item.id)


def pieces_of(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Documents as the engine gets them, cut by their number and length alone."""
    piece: list[Document] = []
    characters = 0
    for document in documents:
        piece.append(document)
        characters += len(document.text)
        if len(piece) >= _PIECE_DOCUMENTS or characters >= _PIECE_CHARACTERS:
            yield piece
            piece, characters = [], 0
    if piece:
        yield piece
