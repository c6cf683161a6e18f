"""Texts that an earlier part holds, too: their result is taken from there, however far back it lies.

Which texts these are follows from the inputs alone, so a run that goes on leaves the same ones out.
The results of a part's texts are kept with the part; those of all parts are looked up on disk, in an
index that each session makes anew, so that memory does not grow with the run.
"""

import hashlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter

from serving.errors import ScoreError
from serving.results import Analysis, Document
from serving.score.parts import Item, Part
from serving.score.scoring import Reject, Scored, as_read

TEXTS = "texts"
"""Suffix of the file of a part that holds the results of its texts."""
_ENTRY = struct.Struct("<16sI")
"""Before each result in such a file: the hash of the text and the bytes of the result."""
_ANALYSIS = TypeAdapter(Analysis)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A part as it was read, and which of its items the engine gets."""

    part: Part
    hashes: tuple[bytes | None, ...]
    """None of a row that holds no document."""
    is_first: tuple[bool, ...]
    """False of a text that an earlier part holds."""


class Repeats:
    """Parts on their way to an engine and back. `index` is where to look results up: a new file, or
    None for one that the system keeps with its temporary files.
    """

    def __init__(self, index: Path | None) -> None:
        self._path = index
        # The run has its output to itself, and not every network file system has locks.
        name = f"file:{quote(os.fsencode(index))}?nolock=1" if index else ""
        self._index = sqlite3.connect(name, uri=True, isolation_level=None)
        self._index.execute("PRAGMA journal_mode=OFF")
        self._index.execute("CREATE TABLE texts (hash BLOB PRIMARY KEY, part INTEGER, result BLOB)")
        self._index.execute("BEGIN")  # never committed: it need not outlive the session
        self._plans: dict[int, _Plan] = {}

    def close(self) -> None:
        """Remove the index."""
        self._index.close()
        if self._path:
            self._path.unlink(missing_ok=True)

    def load(self, part: int, texts: bytes) -> None:
        """Results that an earlier session kept with a part."""
        at = 0
        while at < len(texts):
            hash_, size = _ENTRY.unpack_from(texts, at)
            at += _ENTRY.size + size
            self._index.execute("INSERT INTO texts VALUES (?, ?, ?)", (hash_, part, texts[at - size : at]))

    def firsts(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Each part without the texts that an earlier one holds; there may be none left."""
        for part in parts:
            hashes = tuple(_hash(i.content) if isinstance(i.content, Document) else None for i in part.items)
            is_first = tuple(hash_ is None or self._is_first(hash_, part.number) for hash_ in hashes)
            self._plans[part.number] = _Plan(part, hashes, is_first)
            items = tuple(item for item, first in zip(part.items, is_first, strict=True) if first)
            yield replace(part, items=items)

    def whole(self, results: Iterable[Scored]) -> Iterator[tuple[Scored, bytes]]:
        """Each part as it was read, and the results of its own texts, to be kept with it.

        A part waits until those that hold its other texts have been scored. Raises ScoreError where
        results do not match the parts.
        """
        waiting: dict[bytes, list[tuple[Scored, bytes]]] = {}  # by the hash of a text that is not there yet
        for scored in results:
            arrived = self._keep(scored)
            texts = b"".join(_ENTRY.pack(hash_, len(found)) + found for hash_, found in arrived.items())
            ready = [(scored, texts), *(part for hash_ in arrived for part in waiting.pop(hash_, ()))]
            for own, texts in ready:
                joined = self._joined(own)
                if isinstance(joined, Scored):
                    del self._plans[own.part.number]
                    yield joined, texts
                else:
                    waiting.setdefault(joined, []).append((own, texts))

    def _is_first(self, hash_: bytes, part: int) -> bool:
        added = self._index.execute("INSERT OR IGNORE INTO texts VALUES (?, ?, NULL)", (hash_, part))
        if added.rowcount:
            return True
        (first,) = self._index.execute("SELECT part FROM texts WHERE hash = ?", (hash_,)).fetchone()
        return bool(first == part)

    def _keep(self, scored: Scored) -> dict[bytes, bytes]:
        """The results of a part's own texts by their hashes; they also go into the index."""
        plan = self._plans.get(scored.part.number)
        if plan is None or len(scored.results) != sum(plan.is_first):
            raise ScoreError(
                f"the engine gave part {scored.part.number} twice, or not with as many rows as it got. This "
                "is a fault in embargo, please report it; the parts that are done are kept."
            )
        own = [hash_ for hash_, first in zip(plan.hashes, plan.is_first, strict=True) if first]
        results: dict[bytes, bytes] = {}
        for hash_, found in zip(own, scored.results, strict=True):
            if hash_ is not None and hash_ not in results:
                results[hash_] = _pack(found)
        rows = [(result, hash_) for hash_, result in results.items()]
        self._index.executemany("UPDATE texts SET result = ? WHERE hash = ?", rows)
        return results

    def _joined(self, scored: Scored) -> Scored | bytes:
        """The part with all its rows, or the hash of a text whose result is not there yet."""
        plan = self._plans[scored.part.number]
        found: list[bytes] = []
        for hash_, first in zip(plan.hashes, plan.is_first, strict=True):
            if hash_ is not None and not first:
                row = self._index.execute("SELECT result FROM texts WHERE hash = ?", (hash_,)).fetchone()
                if row[0] is None:
                    return hash_
                found.append(row[0])
        own, taken = iter(scored.results), iter(found)
        results = tuple(
            next(own) if first else _unpack(next(taken), item)
            for item, first in zip(plan.part.items, plan.is_first, strict=True)
        )
        return Scored(plan.part, results, scored.repeated + len(found), scored.tokens)


def _hash(document: Document) -> bytes:
    """Of what the engine reads. *Shape:* 16 bytes."""
    read = as_read(document)
    title = (read.title or "").encode("utf-8", "surrogatepass")
    text = read.text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(b"%d\0%b%b" % (len(title), title, text), digest_size=16).digest()


def _pack(found: tuple[Item, Analysis] | Reject) -> bytes:
    analysis = Analysis("", error=found.problem) if isinstance(found, Reject) else replace(found[1], id="")
    return zlib.compress(_ANALYSIS.dump_json(analysis), 1)


def _unpack(packed: bytes, item: Item) -> tuple[Item, Analysis] | Reject:
    analysis = _ANALYSIS.validate_json(zlib.decompress(packed))
    if analysis.error:
        return Reject(item, analysis.error)
    assert item.id is not None
    return item, replace(analysis, id=item.id)
