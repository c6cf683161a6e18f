"""A document a line in, a result a line out, in order and in bounded memory.

Lines are read only as fast as results are taken: a slow reader slows the work, and one that is
gone stops it. What has arrived is read without waiting for more, so that a caller may
send a line and wait for its answer. Between lines it may pause for as long as it likes, within one not.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving import bodies
from serving.calls import Cancellation
from serving.errors import AbandonedError, RequestError
from serving.held import Held, HeldStream
from serving.logs import log

_LINES, _BYTES = 32, 64 * 1024
"""A chunk of lines that is read together holds at most so many."""
_WAITING_LINES, _WAITING_BYTES = 32, 1024 * 1024
"""Beyond either no further line is read. A request of the client (serving/conversation.py) fits, so that
it may send all of it before it reads."""
_CHUNKS_AHEAD = 3
"""Chunks at work, so that the engine never waits for the network."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of input, counted from 0; no content if it was longer than allowed."""

    number: int
    content: bytes | None


Answer = Callable[[Sequence[Line], Cancellation], Coroutine[Any, Any, bytes]]
"""Lines to lines."""
Abandon = Callable[[asyncio.Task[Any], Cancellation], None]
"""Gives up an answer."""


class NdjsonResponse(Response):
    """A response that reads its request while it answers."""

    def __init__(
        self,
        request: Request,
        answer: Answer,
        abandon: Abandon,
        *,
        line_limit: int,
        line_seconds: float,
        held: Held,
        gzip: bool,
        stopping: asyncio.Event,
    ) -> None:
        """A line has at most `line_limit` bytes, and `line_seconds` to arrive once it has begun."""
        super().__init__(media_type=bodies.NDJSON, headers={"vary": "accept-encoding"})
        del self.headers["content-length"]
        if gzip:
            self.headers["content-encoding"] = "gzip"
        self._request = request
        self._answer = answer
        self._abandon = abandon
        self._line_limit = line_limit
        self._line_seconds = line_seconds
        self._held = held
        self._gzip = gzip
        self._stopping = stopping
        self._whole = False
        """Whether the input has been read to its end, or as far as it can be."""
        self._fault: RequestError | None = None
        """Why it cannot be read further."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the input ends or the caller is gone."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pack = zlib.compressobj(4, zlib.DEFLATED, zlib.MAX_WBITS | 16) if self._gzip else None
        with self._held.stream() as room:
            async for content in self._answers(room):
                if pack:
                    content = await anyio.to_thread.run_sync(_packed, pack, content)
                await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body", "body": pack.flush() if pack else b""})

    async def _answers(self, room: HeldStream) -> AsyncIterator[bytes]:
        lines = _Waiting(_WAITING_LINES)
        stopping = asyncio.create_task(self._stopping.wait())
        reader = asyncio.create_task(self._read(lines, room))
        at_work: deque[tuple[asyncio.Task[bytes], Cancellation, int]] = deque()
        chunk: asyncio.Task[list[Line]] | None = asyncio.create_task(_next_chunk(lines))
        try:
            while chunk or at_work:
                ends = stopping.done() and not self._whole
                if ends and not at_work:
                    raise RequestError(503, "Stopping", "The service is about to stop; send the rest again.")
                waiting: list[asyncio.Task[Any]] = [at_work[0][0]] if at_work else []
                takes_more = len(at_work) < _CHUNKS_AHEAD and not ends
                if chunk and takes_more:
                    waiting.append(chunk)
                if not reader.done():
                    waiting.append(reader)
                if not stopping.done():
                    waiting.append(stopping)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if reader.done():
                    await reader  # raises why
                if at_work and at_work[0][0].done():
                    task, _, size = at_work.popleft()
                    yield await task
                    room.give(size)
                if chunk and chunk.done() and takes_more:
                    found = chunk.result()
                    chunk = asyncio.create_task(_next_chunk(lines)) if found else None
                    if found:
                        cancellation = Cancellation()
                        task = asyncio.create_task(self._answer(found, cancellation))
                        at_work.append((task, cancellation, sum(map(_size, found))))
            if self._fault:
                raise self._fault
        except AbandonedError:
            log.info("caller left a stream")
        except RequestError as error:
            # The status is sent; what is left to say is said in a line.
            yield _error_line(error)
        finally:
            reader.cancel()
            stopping.cancel()
            if chunk:
                chunk.cancel()
            for task, cancellation, _ in at_work:
                self._abandon(task, cancellation)

    async def _read(self, lines: "_Waiting", room: HeldStream) -> None:
        """Lines to their end or to a fault; then wait for the caller to leave, which raises."""
        try:
            await self._split(lines, room)
        except RequestError as error:
            self._fault = error  # to be told when what came before is answered
        except ClientDisconnect as error:
            raise AbandonedError from error
        self._whole = True
        await lines.put(None)
        await bodies.until_gone(self._request)
        raise AbandonedError

    async def _split(self, lines: "_Waiting", room: HeldStream) -> None:
        """Split the body at line feeds. What it takes of `room` is given back when lines are answered."""
        number, rest, too_long, ends = 0, bytearray(), False, None

        async def end(content: bytes) -> None:
            nonlocal number, too_long
            too_long = too_long or len(content) > self._line_limit
            line = Line(number, None if too_long else content) if too_long or content.strip() else None
            room.give(len(content) - _size(line))
            if line:
                await lines.put(line)
                number += 1
            too_long = False

        pieces = bodies.unpacked(self._request, _BYTES)
        while (piece := await self._next_piece(pieces, room, ends)) is not None:
            *whole, last = piece.split(b"\n")
            room.give(len(whole))  # the line feeds
            for part in whole:
                content = bytes(rest + part)
                rest.clear()
                ends = None
                await end(content)
            rest += last
            if len(rest) > self._line_limit:
                too_long = True
                room.give(len(rest))
                rest.clear()
            if (rest or too_long) and ends is None:
                ends = asyncio.get_running_loop().time() + self._line_seconds
        await end(bytes(rest))

    async def _next_piece(
        self, pieces: AsyncIterator[bytes], room: HeldStream, ends: float | None
    ) -> bytes | None:
        """What comes next and there is room for; None at the end. `ends` is when patience with a line
        that has begun does."""
        seconds = f"{self._line_seconds:g} s"
        try:
            async with asyncio.timeout_at(ends):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise RequestError(
                408,
                "Line too slow",
                f"The rest of a line did not arrive within {seconds}; send it again from there. Between "
                "lines there may be any pause.",
            ) from error
        try:
            async with asyncio.timeout_at(ends):
                await room.take(len(piece or b""))
        except TimeoutError as error:
            raise RequestError(
                429,
                "Too busy",
                f"There was no room for the rest of a line within {seconds}: other streams hold long lines. "
                "Send it again later, from there.",
            ) from error
        return piece


class _Waiting(asyncio.Queue["Line | None"]):
    """Lines that were read and are not at work; None is the end."""

    _bytes = 0

    def full(self) -> bool:
        """Whether the reader has to wait."""
        return super().full() or self._bytes >= _WAITING_BYTES

    def _put(self, item: Line | None) -> None:
        self._bytes += _size(item)
        super()._put(item)

    def _get(self) -> Line | None:
        item = super()._get()
        self._bytes -= _size(item)
        return item


def _size(line: Line | None) -> int:
    return len(line.content or b"") if line else 0


def _packed(pack: "zlib._Compress", content: bytes) -> bytes:
    return pack.compress(content) + pack.flush(zlib.Z_SYNC_FLUSH)


async def _next_chunk(lines: "_Waiting") -> list[Line]:
    """What has arrived, at least one line; empty at the end."""
    line = await lines.get()
    chunk: list[Line] = []
    size = 0
    while line:
        chunk.append(line)
        size += _size(line)
        if len(chunk) == _LINES or size > _BYTES or lines.empty():
            return chunk
        line = lines.get_nowait()
    if chunk:
        lines.put_nowait(None)  # the end is for the next call
    return chunk


def _error_line(error: RequestError) -> bytes:
    return orjson.dumps({"error": {"code": error.title, "message": error.detail}}) + b"\n"
