"""Text that nobody has annotated, for teachers to explain (training/teacher.py)."""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import numpy as np

from training.corpus import AnnotatedDocument
from training.formats.jsonl import read_rows, text_of


def draw_unlabelled(
    files: Iterable[Path], count: int, seed: int, held_out: Set[str]
) -> Sequence[AnnotatedDocument]:
    """`count` documents of JSON Lines files with "text" and perhaps "id" and "title", drawn by `seed`.

    Texts that are held out for measuring are left out. Raises CorpusError at a row without text.
    """
    documents = [
        AnnotatedDocument(
            id=str(row.get("id", where)),
            text=text,
            entities=(),
            cats=None,
            title=row.get("title") or None,
            source=str(row.get("source") or ""),
            known_types=frozenset(),
        )
        for file in files
        for where, row in read_rows(file)
        if (text := text_of(row, where)) not in held_out
    ]
    order = np.random.default_rng(seed).permutation(len(documents))
    return [documents[at] for at in order[:count]]
