"""How many bytes of requests are in memory: bodies are refused beyond the limit, streams wait."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.errors import RequestError

STREAM_FREE_BYTES = 128 * 1024
"""A stream may hold so many whatever others hold, and they are not counted: so streams of short lines
never wait for those of long ones."""


class Held:
    """Bytes of all bodies and streams that are being read or answered; at most `limit` are in memory.

    Streams share half of the limit. Used on the event loop alone.
    """

    def __init__(self, limit: int, wait_seconds: Callable[[int], int]) -> None:
        """`wait_seconds` tells how long it takes until so many bytes have been answered."""
        self.limit = limit
        self.bytes = 0
        self._wait_seconds = wait_seconds
        self._streamed = 0
        self._waiting: dict[asyncio.Future[None], tuple[HeldStream, int]] = {}

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Hold what one body's `add(bytes)` counts, which raises RequestError 429 beyond the limit."""
        size = 0

        def add(more: int) -> None:
            nonlocal size
            if (over := self.bytes + more - self.limit) > 0:
                wait = self._wait_seconds(over)
                raise RequestError(
                    429,
                    "Too busy",
                    f"Bodies of {self.bytes} bytes are being read, at most {self.limit} may be; there "
                    f"should be room in {wait} s.",
                    headers={"Retry-After": str(wait)},
                )
            size += more
            self.bytes += more

        try:
            yield add
        finally:
            self.bytes -= size
            self._let_in()

    @contextmanager
    def stream(self) -> Iterator["HeldStream"]:
        """Hold what one stream takes and does not give back."""
        stream = HeldStream(self)
        try:
            yield stream
        finally:
            stream.give(stream.bytes)

    async def take(self, stream: "HeldStream", more: int) -> None:
        """Wait until a stream may hold so many bytes more, first come first served."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = stream, more
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(turn, None):
                self._let_in()
            else:
                self.change(stream, -more)  # it was given room in the moment in which it left
            raise

    def change(self, stream: "HeldStream", more: int) -> None:
        """Count so many bytes more, or less, of a stream."""
        counted = stream.counted(more)
        stream.bytes += more
        self._streamed += counted
        self.bytes += counted
        if more < 0:
            self._let_in()

    def _let_in(self) -> None:
        is_full = False
        for turn, (stream, more) in tuple(self._waiting.items()):
            # One that needs no room passes those that do.
            if stream.counted(more) and (is_full or not self._fits(stream, more)):
                is_full = True
            elif not turn.cancelled():
                del self._waiting[turn]
                self.change(stream, more)
                turn.set_result(None)

    def _fits(self, stream: "HeldStream", more: int) -> bool:
        if self._streamed == _counted(stream.bytes):
            return True  # alone it may be larger than the limit: a line must find room some time
        counted = stream.counted(more)
        return self._streamed + counted <= self.limit // 2 and self.bytes + counted <= self.limit


class HeldStream:
    """What one stream holds."""

    def __init__(self, held: Held) -> None:
        self.bytes = 0
        self._held = held

    def counted(self, more: int) -> int:
        """How many of so many bytes more would be counted."""
        return _counted(self.bytes + more) - _counted(self.bytes)

    async def take(self, more: int) -> None:
        """Wait until there is room for so many bytes more, and hold them."""
        await self._held.take(self, more)

    def give(self, less: int) -> None:
        """So many bytes are no longer held."""
        self._held.change(self, -less)


def _counted(size: int) -> int:
    return max(0, size - STREAM_FREE_BYTES)
