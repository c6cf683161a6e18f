"""The body of a request: its type, its size and its compression, checked while it arrives."""

import zlib
from collections.abc import AsyncIterator, Callable

import anyio
from starlette.requests import ClientDisconnect, Request

from serving.errors import RequestError

JSON, NDJSON = "application/json", "application/x-ndjson"
_PIECE = 1024 * 1024
"""Bytes that are unpacked at once."""


def media_type(request: Request, *expected: str) -> str:
    """The content type without its parameters. Raises RequestError 415 at another than expected."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given in expected:
        return given
    raise RequestError(
        415,
        "Unsupported media type",
        f"Got Content-Type {given or '(none)'!r}; expected {' or '.join(expected)}.",
    )


def content_encoding(request: Request) -> str:
    """Either gzip or identity. Raises RequestError 415 at another."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", "gzip"):
        return encoding
    raise RequestError(
        415, "Unsupported encoding", f"Got Content-Encoding {encoding!r}; expected gzip or none."
    )


def declared_bytes(request: Request) -> int:
    """What the head of a request says of its length; 0 if nothing."""
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() else 0


async def read_body(request: Request, limit: int, seconds: float, add: Callable[[int], None]) -> bytes:
    """The whole body, unpacked. Raises RequestError 413 as soon as it is known to be too large, 408 if
    it has not arrived after `seconds`, 400 if it breaks off, and what `add` raises, which is told of its
    bytes."""
    if declared_bytes(request) > limit:
        raise _too_large(limit)
    content = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for chunk in unpacked(request, _PIECE):
                add(len(chunk))
                content += chunk
                if len(content) > limit:
                    raise _too_large(limit)
    except ClientDisconnect as error:
        raise RequestError(400, "Body broken off", "The connection ended before the body did.") from error
    except TimeoutError as error:
        raise RequestError(
            408, "Body too slow", f"The body did not arrive within {seconds:g} s; send it again."
        ) from error
    return bytes(content)


async def unpacked(request: Request, chunk_limit: int) -> AsyncIterator[bytes]:
    """The body's bytes as they arrive, without gzip, in pieces of at most `chunk_limit` bytes.

    Raises RequestError: 415 for another encoding, 400 for broken gzip; ClientDisconnect if the caller
    leaves before the end.
    """
    unpack = _gunzip() if content_encoding(request) == "gzip" else None
    try:
        async for chunk in request.stream():
            if unpack is None:
                for at in range(0, len(chunk), chunk_limit):
                    yield chunk[at : at + chunk_limit]
                continue
            while chunk:  # a small packed piece may hold a very large one
                if unpack.eof:
                    unpack = _gunzip()  # a gzip file may have several members
                yield unpack.decompress(chunk, chunk_limit)
                chunk = unpack.unconsumed_tail or unpack.unused_data
    except zlib.error as error:
        raise RequestError(400, "Broken gzip", f"The body is no gzip: {error}.") from error
    if unpack is not None and not unpack.eof:
        raise RequestError(400, "Broken gzip", "The packed body ends too early; send it whole.")


def _gunzip() -> "zlib._Decompress":
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413, "Body too large", f"At most {limit} bytes are read; send fewer documents a request."
    )


async def until_gone(request: Request) -> None:
    """Wait, after the body has been read, until the caller leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
