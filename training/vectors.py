"""Documents as vectors whose products say how much two of them are alike: words, findings, occasion."""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from training.scored import ScoredDocument

_WORD_COLUMNS = 2048
"""Words share columns by their hash: a vocabulary that needs no second look at the corpus."""
_WEIGHTS = (0.6, 0.2, 0.2)
"""Of words, of types and labels found, and of where and when the document comes from."""

Matrix = npt.NDArray[np.float32]


def vectors(documents: Sequence[ScoredDocument]) -> Matrix:
    """Rows whose product is 1 where two documents are alike in all, 0 where in nothing.

    *Shape:* (documents, columns).
    """
    blocks = (
        _weighted(_hashed([_words(scored) for scored in documents])),
        _unit(_counts([_findings(scored) for scored in documents])),
        _unit(_counts([_occasion(scored) for scored in documents])),
    )
    return np.hstack(
        [block * np.float32(np.sqrt(weight)) for block, weight in zip(blocks, _WEIGHTS, strict=True)]
    )


def _words(scored: ScoredDocument) -> list[str]:
    return re.findall(r"\w+", f"{scored.document.title or ''} {scored.document.text}".lower())


def _findings(scored: ScoredDocument) -> list[str]:
    return [label.label for label in scored.labels or ()] + [entity.type for entity in scored.entities]


def _occasion(scored: ScoredDocument) -> list[str]:
    """The file, and the month: an ISO date begins with it."""
    return [f"in {scored.source}", f"at {(scored.published_at or '')[:7]}"]


def _hashed(words: Sequence[Iterable[str]]) -> Matrix:
    counted = np.zeros((len(words), _WORD_COLUMNS), dtype=np.float32)
    for row, found in zip(counted, words, strict=True):
        for word, number in Counter(found).items():
            row[zlib.crc32(word.encode()) % _WORD_COLUMNS] += number
    return counted


def _weighted(counted: Matrix) -> Matrix:
    """TF-IDF: a word counts by its logarithm, and less the more documents hold it."""
    rarity = np.log((1 + len(counted)) / (1 + np.count_nonzero(counted, axis=0)))
    return _unit(np.log1p(counted) * rarity.astype(np.float32))


def _counts(names: Sequence[Sequence[str]]) -> Matrix:
    columns = {name: at for at, name in enumerate(dict.fromkeys(n for found in names for n in found))}
    counted = np.zeros((len(names), len(columns)), dtype=np.float32)
    for row, found in zip(counted, names, strict=True):
        for name, number in Counter(found).items():
            row[columns[name]] = np.log1p(number)
    return counted


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit
