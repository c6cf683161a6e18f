"""Pieces of parts: read in any order, by workers that may die, each document with one result."""

import random
from collections import deque

import pytest

from serving.results import Analysis, Coverage, Document, Problem
from serving.score.parts import Item, Part, Place
from serving.score.pieces import KILLED_WORKER, TRIES, OpenParts, Piece
from serving.score.scoring import Reject, Scored


def part(number: int, texts: list[str]) -> Part:
    items = [Item("a", {"line": n}, n, Document(text, id=n)) for n, text in enumerate(texts)]
    bad = Item("a", {"line": len(texts)}, None, Problem("bad", "Bad."))
    return Part(number, (*items, bad), Place(), 0.5)


def read(piece: Piece) -> list[Analysis]:
    return [Analysis(d.id, coverage=Coverage(len(d.text), 1)) for d in piece.documents]


def outcomes(scored: Scored) -> list[int | str]:
    """Tokens of what was read, the reason of what was not."""
    return [
        found.problem.code if isinstance(found, Reject) else found[1].coverage.tokens  # type: ignore[union-attr]
        for found in scored.results
    ]


@pytest.mark.parametrize("killers", [{0}, {699}, {3, 256, 300}, {10, 11}, set()])
def test_only_the_documents_that_kill_are_given_up(killers: set[int]) -> None:
    texts = ["x" * (1 + n) for n in range(700)]
    opened, chance, deaths, done = OpenParts(), random.Random(1), 0, []
    line = deque(opened.open(part(0, texts)))
    assert len(line) == 3
    while line:
        line.rotate(chance.randrange(len(line)))
        piece = line.popleft()
        if any(document.id in killers for document in piece.documents):
            deaths += 1
            line.extend(opened.died(piece))
        else:
            opened.read(piece, read(piece))
        done += list(opened.done())
    expected = [KILLED_WORKER.code if n in killers else 1 + n for n in range(700)]
    assert [outcomes(scored) for scored in done] == [[*expected, "bad"]]
    # Halves of halves of 256 until one is left, and that once more.
    assert deaths <= len(killers) * (TRIES + 8 + 1)


def test_one_more_death_condemns_no_document_of_a_piece_that_was_divided() -> None:
    opened = OpenParts()
    (piece,) = opened.open(part(0, ["oil", "coal"]))
    for _ in range(TRIES - 1):
        (piece,) = opened.died(piece)
    oil, coal = opened.died(piece)
    (oil,) = opened.died(oil)  # its node went away, which has nothing to do with it
    for piece in (oil, coal):
        opened.read(piece, read(piece))
    assert [outcomes(scored) for scored in opened.done()] == [[3, 4, "bad"]]
    (alone,) = opened.open(part(1, ["grain"]))
    tries = 0
    line = [alone]
    while line:
        line = opened.died(line.pop())
        tries += 1
    assert tries == TRIES


def test_a_part_is_done_once_when_its_last_piece_is_read() -> None:
    opened = OpenParts()
    pieces = [*opened.open(part(0, ["a", "b"])), *opened.open(part(1, [f"c{n}" for n in range(300)]))]
    assert [len(piece.documents) for piece in pieces] == [2, 256, 44]
    done = []
    for piece in reversed(pieces):
        opened.read(piece, read(piece))
        done.append([scored.part.number for scored in opened.done()])
    assert done == [[], [1], [0]]


def test_a_part_without_documents_is_done_at_once() -> None:
    opened = OpenParts()
    assert opened.open(part(4, [])) == []
    assert [outcomes(scored) for scored in opened.done()] == [["bad"]]
