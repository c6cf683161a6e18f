"""HTTP/1.1 by hand: bytes out, an answer in, at a small part of what a client library costs.

A load generator shares its machine with what it measures, so it must be cheap: requests are whole
bytes before the clock runs, answers are cut by httptools, the parser that the server uses as well.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BrokenOff(ConnectionError):
    """The server closed the connection before an answer was whole."""


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class Link(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._has_body = True

    @classmethod
    async def to(cls, port: int) -> "Link":
        """Connect to this machine."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(cls, "127.0.0.1", port)
        return link

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, *, has_body: bool = True) -> Answer:
        """Send, and wait for the whole answer; `has_body=False` for an answer to HEAD.

        Raises BrokenOff if the connection ends before.
        """
        assert self._answer is None
        if self._transport is None or self._transport.is_closing():
            raise BrokenOff("the connection is closed")
        self._has_body = has_body
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    # uvloop's transports are none of asyncio's classes.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The loop has connected."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has disconnected."""
        if self._answer and not self._answer.done():
            self._answer.set_exception(BrokenOff("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """The loop has read."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._answer and not self._answer.done():
                self._answer.set_exception(BrokenOff(f"the answer is no HTTP: {error}"))
            self.close()

    def on_message_begin(self) -> None:
        """The parser is at the beginning of an answer."""
        self._headers = {}
        self._body.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The parser has the head."""
        if not self._has_body and self._parser.get_status_code() >= 200:
            self._finish()
            self.close()

    def on_body(self, body: bytes) -> None:
        """The parser has a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The parser has all; what is below 200 only announces the answer."""
        if self._parser.get_status_code() >= 200:
            self._finish()

    def _finish(self) -> None:
        if self._answer and not self._answer.done():
            answer = Answer(self._parser.get_status_code(), self._headers, bytes(self._body))
            self._answer.set_result(answer)
