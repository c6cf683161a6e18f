"""Parts in pieces that any worker may read, put together again when all are read.

Nothing here knows what a worker is; only that one may die, and that a document may be why.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from serving.results import Analysis, Document, Problem
from serving.score.parts import Part
from serving.score.scoring import Scored, as_scored, documents_of, pieces_of

TRIES = 3
"""A piece that ended so many workers is divided, to find the document that ends them."""

KILLED_WORKER = Problem(
    "killed_worker",
    "Every process that read it died, also when it read nothing else; the system's log says why, mostly "
    "for want of memory. Score it where more is free, or split it.",
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some documents of a part, as the engine gets them."""

    part: int
    first: int
    """Where its documents begin among those of the part."""
    documents: Sequence[Document]
    deaths: int = 0
    """Workers that died while they were at it. After the first one it is read alone, so that the
    next death can be laid to its charge."""

    def again(self) -> list["Piece"]:
        """What is to be tried after one more death; nothing if it is one document, and enough died of it."""
        deaths, half = self.deaths + 1, len(self.documents) // 2
        if deaths < TRIES:
            return [replace(self, deaths=deaths)]
        if not half:
            return []
        halves = (self.first, self.documents[:half]), (self.first + half, self.documents[half:])
        return [
            # One document is given up only after two deaths of its own: the others may have been bad luck.
            Piece(self.part, first, documents, min(deaths, TRIES - 2) if len(documents) == 1 else deaths)
            for first, documents in halves
        ]


class OpenParts:
    """Parts of which some piece is still to be read."""

    def __init__(self) -> None:
        self._open: dict[int, _OpenPart] = {}

    def open(self, part: Part) -> list[Piece]:
        """The pieces of a part: those that every engine reads it in."""
        first, pieces = 0, []
        for documents in pieces_of(documents_of(part)):
            pieces.append(Piece(part.number, first, documents))
            first += len(documents)
        self._open[part.number] = _OpenPart(part, first, {})
        return pieces

    def read(self, piece: Piece, analyses: Sequence[Analysis]) -> None:
        """Take the results of a piece."""
        self._open[piece.part].analyses.update(enumerate(analyses, piece.first))

    def died(self, piece: Piece) -> list[Piece]:
        """What is to be read after a worker died at a piece. A document that nothing else explains
        gets its error.
        """
        again = piece.again()
        if not again:
            self.read(piece, [Analysis(document.id, error=KILLED_WORKER) for document in piece.documents])
        return again

    def done(self) -> Generator[Scored]:
        """Parts that are read whole, each once."""
        for number, opened in list(self._open.items()):
            if len(opened.analyses) == opened.documents:
                del self._open[number]
                yield as_scored(opened.part, [opened.analyses[at] for at in range(opened.documents)])


@dataclass(frozen=True, slots=True)
class _OpenPart:
    """A part and what has been read of it."""

    part: Part
    documents: int
    analyses: dict[int, Analysis]
    """By the number of the document."""
