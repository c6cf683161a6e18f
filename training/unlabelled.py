"""Text that nobody has annotated, for teachers to explain (training/teacher.py)."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from serving.sentences import sentences
from training.corpus import AnnotatedDocument
from training.formats.jsonl import read_rows, text_of

_MOST_SENTENCES = 3


def draw_unlabelled(
    files: Iterable[Path], count: int | None, seed: int, held_out: Set[str]
) -> Sequence[AnnotatedDocument]:
    """`count` documents (None: all) of JSON Lines files with "text" and perhaps "id" and "title".

    They are drawn by `seed`. Texts that hold one that is held out for measuring are left out.
    Raises CorpusError at a row without text.
    """
    documents = [
        AnnotatedDocument(
            id=str(row.get("id", where)),
            text=text_of(row, where),
            entities=(),
            cats=None,
            title=row["title"] if isinstance(row.get("title"), str) and row["title"] else None,
            source=str(row.get("source") or ""),
            known_types=frozenset(),
        )
        for file in files
        for where, row in read_rows(file)
    ]
    held = _HeldOut(held_out)
    order = np.random.default_rng(seed).permutation(len(documents))
    drawn = (documents[at] for at in order if documents[at].text not in held)
    return list(islice(drawn, count))


def some_cut_short(
    documents: Sequence[AnnotatedDocument], share: float, seed: int
) -> Sequence[AnnotatedDocument]:
    """A `share` of the documents as one to three sentences from anywhere in them, without their title.

    Alerts and snippets are so short, archives are not: a student that reads articles alone is
    unsure of them.
    """
    random = np.random.default_rng([seed, 1])
    is_short = random.random(len(documents)) < share
    return [_short(d, random) if short else d for d, short in zip(documents, is_short, strict=True)]


def _short(document: AnnotatedDocument, random: np.random.Generator) -> AnnotatedDocument:
    found = sentences(document.text)
    count = min(int(random.integers(1, _MOST_SENTENCES + 1)), len(found))
    first = int(random.integers(len(found) - count + 1))
    kept = found[first : first + count]
    text = document.text[kept[0][0] : kept[-1][1]] if kept else document.text
    return replace(document, text=text, title=None)


class _HeldOut:
    """Whether a text holds a held-out one, whole; looked up by a piece from the middle of each."""

    _PIECE = 60

    def __init__(self, texts: Set[str]) -> None:
        self._short = [text for text in texts if len(text) < 2 * self._PIECE]
        self._by_piece: dict[str, list[str]] = {}
        for text in texts:
            if len(text) >= 2 * self._PIECE:
                middle = len(text) // 2
                self._by_piece.setdefault(text[middle : middle + self._PIECE], []).append(text)

    def __contains__(self, text: str) -> bool:
        if any(short in text for short in self._short):
            return True
        size = self._PIECE
        return any(
            held in text
            for at in range(len(text) - size + 1)
            for held in self._by_piece.get(text[at : at + size], ())
        )
