"""Results of texts that may come again, such as syndicated copies, in bounded memory."""

import dataclasses
import sys
import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from cachetools import LRUCache

from serving.results import Analysis, Document, Options

_BYTES_AN_ENTRY = 600
"""Of the key, and of the two tables that an LRUCache keeps of it."""


def content_hash(document: Document) -> bytes:
    """SHA-256 of what is read: the same for documents that differ in nothing but their id."""
    # A lone surrogate must reach the engine, which names it as the error.
    parts = (document.title or "", document.text)
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return sha256(b"%d " % len(encoded[0]) + b"".join(encoded)).digest()


class Key(NamedTuple):
    """What decides a result."""

    content: bytes
    options: Options

    @classmethod
    def of(cls, document: Document, options: Options) -> "Key":
        """Equal for documents that differ in nothing but their id."""
        return cls(content_hash(document), options)


class ResultCache:
    """Keeps the results that were used last, in at most `limit` bytes. Safe to call from many threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._results: LRUCache[Key, Analysis] = LRUCache(limit, getsizeof=entry_bytes)

    @property
    def bytes(self) -> int:
        """What is held, by estimate."""
        return int(self._results.currsize)

    def known(self, keys: Iterable[Key]) -> dict[Key, Analysis]:
        """Those of the keys that are held, with their results."""
        with self._lock:
            return {key: self._results[key] for key in keys if key in self._results}

    def keep(self, found: Mapping[Key, Analysis]) -> None:
        """Hold results from now on; errors, and what alone is larger than the limit, are not held."""
        for key, analysis in found.items():
            if analysis.error or entry_bytes(analysis) > self.limit:
                continue
            with self._lock:
                self._results[key] = analysis


def entry_bytes(analysis: Analysis) -> int:
    """Memory that holding a result takes; a little too much, for names that results share count in each."""
    return _BYTES_AN_ENTRY + _bytes(analysis)


def _bytes(value: Any) -> int:
    size = sys.getsizeof(value)
    if isinstance(value, tuple):
        return size + sum(map(_bytes, value))
    if dataclasses.is_dataclass(value):
        return size + sum(_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return size
