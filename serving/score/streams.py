"""The bytes of an input, decompressed and cut into lines; in memory is one line, and what is put back."""

import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pydantic import BaseModel, ConfigDict

from serving.errors import ScoreError

_BLOCK = 8192
"""Decompressed bytes at a time: a damaged file costs at most so much before the damage."""
_READ = 65_536
_ZSTD_READ = 128
"""Compressed bytes at a time: they may stand for tens of thousands of times as many."""


class BrokenInput(Exception):
    """The rest of an input cannot be read; what came before is sound. `code` is meant for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Cursor(BaseModel):
    """Where reading an input goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: int = 0
    """Bytes of a file, decompressed; rows of a Parquet file; files of a folder."""
    line: int = 0
    """Lines before this place."""
    prefix_sha256: str | None = None
    """Of the bytes before this place, where they cannot be hashed in advance (stdin)."""


class Line(NamedTuple):
    """One line of a file."""

    offset: int
    """Bytes before it, decompressed."""
    number: int
    """From 1."""
    content: bytes | None
    """With its line break; None if it is longer than the limit."""
    quotes: int
    """Quotation marks in a line that is longer than the limit."""


def decompressed(file: BinaryIO, compression: str) -> BinaryIO:
    """A file's content; `compression` is "gz", "zst" or "".

    Reading raises BrokenInput where the compressed bytes are damaged or end early.
    """
    if not compression:
        return file
    blocks = _gunzip(file) if compression == "gz" else _unzstd(file)
    return io.BufferedReader(_Blocks(blocks))


class Mark(NamedTuple):
    """A place that `Lines` can go back to, once."""

    offset: int
    number: int
    sha256: "hashlib._Hash | None"


class Lines:
    """The lines of a file, one in memory at a time, none longer than `limit` bytes; some may be put back."""

    def __init__(self, file: BinaryIO, limit: int, *, seekable: bool, hashed: bool = False) -> None:
        self.offset = 0
        self.number = 0
        self._file = file
        self._back = io.BytesIO()
        self._limit = limit
        self._seekable = seekable
        self._sha256 = hashlib.sha256() if hashed else None

    def __iter__(self) -> Iterator[Line]:
        while (line := self.next()) is not None:
            yield line

    def next(self) -> Line | None:
        """The next line; None at the end."""
        offset = self.offset
        content = self.take(self._limit)
        if not content:
            return None
        if len(content) <= self._limit or content.endswith(b"\n"):
            return Line(offset, self.number, content, 0)
        quotes = content.count(b'"')
        while not content.endswith(b"\n") and (content := self._take(_READ)):
            quotes += content.count(b'"')
        return Line(offset, self.number, None, quotes)

    def take(self, limit: int) -> bytes:
        """The next line, or `limit` + 1 bytes of a longer one; empty at the end.

        Who is given a part of a line takes the rest or puts it back.
        """
        content = self._take(limit + 1)
        self.number += bool(content)
        return content

    def mark(self) -> Mark:
        """The place behind the line last handed out."""
        return Mark(self.offset, self.number, self._sha256.copy() if self._sha256 else None)

    def put_back(self, mark: Mark, content: bytes) -> None:
        """Go on at `mark` again; `content` is all that was taken since."""
        self.offset, self.number, self._sha256 = mark
        self._back = io.BytesIO(content + self._back.read())

    def cursor(self) -> Cursor:
        """The place behind the line last handed out."""
        sha256 = self._sha256.hexdigest() if self._sha256 else None
        return Cursor(offset=self.offset, line=self.number, prefix_sha256=sha256)

    def forward(self, cursor: Cursor) -> None:
        """Go on at a place at or behind this one. Raises ScoreError if other bytes stand before it."""
        if cursor.offset <= self.offset:
            return
        if self._seekable:
            self._file.seek(cursor.offset)
            self.offset = cursor.offset
        while (left := cursor.offset - self.offset) > 0:
            if not self._count(self._file.read(min(left, _READ))):
                break
        self.number = cursor.line
        if self.offset != cursor.offset or self.cursor().prefix_sha256 != cursor.prefix_sha256:
            raise ScoreError(
                f"the first {cursor.offset} bytes of the input are not those that were read before the run "
                "was cut off; give the same input again, or --restart to begin anew."
            )

    def _take(self, limit: int) -> bytes:
        content = self._back.readline(limit)
        if len(content) < limit and not content.endswith(b"\n"):
            content += self._file.readline(limit - len(content))
        return self._count(content)

    def _count(self, content: bytes) -> bytes:
        self.offset += len(content)
        if self._sha256:
            self._sha256.update(content)
        return content


class _Blocks(io.RawIOBase):
    """A file made of blocks. The blocks do not depend on how it is read, so neither does what
    is lost where they break off: a resumed run finds the same.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left:
            self._left = memoryview(next(self._blocks, b""))
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    """Members one after the other, as gzip writes them; zeros may fill the end."""
    member, given, begun, members = zlib.decompressobj(wbits=31), b"", False, 0
    while given or (given := file.read(_READ)):
        if members and not begun and not (given := given.lstrip(b"\0")):
            continue
        begun = True
        try:
            block = member.decompress(given, _BLOCK)
        except zlib.error as error:
            raise BrokenInput("broken_gzip", f"The rest cannot be decompressed ({error}).") from error
        if block:
            yield block
        given = member.unconsumed_tail
        if member.eof:
            given = member.unused_data
            member, begun, members = zlib.decompressobj(wbits=31), False, members + 1
    if begun:
        raise BrokenInput("broken_gzip", "The file ends early: it was cut off, or is still being written.")


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """Frames one after the other."""
    import zstandard

    frame, given, begun = zstandard.ZstdDecompressor().decompressobj(), b"", False
    while given or (given := file.read(_ZSTD_READ)):
        begun = True
        try:
            block = frame.decompress(given)
        except zstandard.ZstdError as error:
            raise BrokenInput("broken_zstd", f"The rest cannot be decompressed ({error}).") from error
        if block:
            yield block
        given = b""
        if frame.eof:
            given = frame.unused_data
            frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
    if begun:
        raise BrokenInput("broken_zstd", "The file ends early: it was cut off, or is still being written.")
