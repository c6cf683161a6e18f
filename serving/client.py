"""A client of the service: `Client`, and `AsyncClient` for asyncio. Needs `embargo[client]`."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import httpx

from serving.api import AnalyzeResponse, LineOut, ModelCardOut, OptionsIn
from serving.conversation import Call, Chunks, Conversations, DocumentLike, Reply, Retry, Talk, Wait, chunked

T = TypeVar("T")
_LONGER_THAN_THE_SERVICE = 330.0
"""Seconds; the service gives up after 300 by default and says so."""
_CONNECT_SECONDS = 5.0
_DEFAULTS = OptionsIn()


class _Connection:
    """What both clients are built from."""

    def __init__(self, url: str, *, key: str | None, timeout: float, retry: Retry | None) -> None:
        self._conversations = Conversations(retry or Retry())
        self._settings: dict[str, Any] = {
            "base_url": url,
            "headers": {"authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(timeout, connect=_CONNECT_SECONDS),
        }


class Client(_Connection):
    """Asks a service; safe to share between threads. Every method raises ServiceError.

    `url`: where the service is, `key`: its API key, `timeout`: seconds to wait for an answer,
    `transport`: another way there than the network, as httpx has it.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = _LONGER_THAN_THE_SERVICE,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key=key, timeout=timeout, retry=retry)
        self._http = httpx.Client(**self._settings, transport=transport)

    def analyze(self, documents: Iterable[DocumentLike], options: OptionsIn = _DEFAULTS) -> AnalyzeResponse:
        """One request; results in order, a bad document carries its error."""
        return self._run(self._conversations.analyze(documents, options))

    def stream(
        self, documents: Iterable[DocumentLike], options: OptionsIn = _DEFAULTS, *, ahead: int = 2
    ) -> Iterator[LineOut]:
        """Any number of documents, results in order, in bounded memory.

        Sent in requests of at most 32 lines, `ahead` of them at once: each can be repeated, which half
        a stream cannot. `documents` is read no further than that ahead of the results.
        """
        chunks: deque[Future[list[LineOut]]] = deque()
        threads, left = ThreadPoolExecutor(ahead), threading.Event()
        try:
            for chunk in chunked(documents):
                chunks.append(threads.submit(self._run, self._conversations.lines(chunk, options), left))
                if len(chunks) == ahead:
                    yield from chunks.popleft().result()
            while chunks:
                yield from chunks.popleft().result()
        finally:
            # Whoever leaves early does not wait for requests that are under way.
            left.set()
            threads.shutdown(wait=False, cancel_futures=True)

    def model(self) -> ModelCardOut:
        """The card of the model that answers."""
        return self._run(self._conversations.model())

    def ready(self) -> bool:
        """Whether requests are taken; asked once."""
        return self._run(self._conversations.ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, talk: Talk[T], left: threading.Event | None = None) -> T:
        """Raises CancelledError when there is time to wait and `left` is set by then."""
        left = left or threading.Event()
        reply: Reply = None
        while True:
            try:
                step = talk.send(reply)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Wait):
                if _pause(left, step.seconds):
                    raise CancelledError
                reply = None
            else:
                reply = self._send(step)

    def _send(self, call: Call) -> Reply:
        try:
            return self._http.request(
                call.method, call.path, content=call.content, headers=call.headers, params=call.params
            )
        except httpx.RequestError as error:
            return error


class AsyncClient(_Connection):
    """`Client` for asyncio: the same arguments, methods and errors."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = _LONGER_THAN_THE_SERVICE,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key=key, timeout=timeout, retry=retry)
        self._http = httpx.AsyncClient(**self._settings, transport=transport)

    async def analyze(
        self, documents: Iterable[DocumentLike], options: OptionsIn = _DEFAULTS
    ) -> AnalyzeResponse:
        """As `Client.analyze`."""
        return await self._run(self._conversations.analyze(documents, options))

    async def stream(
        self,
        documents: Iterable[DocumentLike] | AsyncIterable[DocumentLike],
        options: OptionsIn = _DEFAULTS,
        *,
        ahead: int = 2,
    ) -> AsyncIterator[LineOut]:
        """As `Client.stream`; `documents` may also come asynchronously."""
        chunks: deque[asyncio.Task[list[LineOut]]] = deque()
        try:
            async for chunk in _chunked_async(documents):
                chunks.append(asyncio.create_task(self._run(self._conversations.lines(chunk, options))))
                if len(chunks) == ahead:
                    for line in await chunks.popleft():
                        yield line
            while chunks:
                for line in await chunks.popleft():
                    yield line
        finally:
            for waiting in chunks:
                waiting.cancel()

    async def model(self) -> ModelCardOut:
        """As `Client.model`."""
        return await self._run(self._conversations.model())

    async def ready(self) -> bool:
        """As `Client.ready`."""
        return await self._run(self._conversations.ready())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, talk: Talk[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = talk.send(reply)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await self._send(step)

    async def _send(self, call: Call) -> Reply:
        try:
            return await self._http.request(
                call.method, call.path, content=call.content, headers=call.headers, params=call.params
            )
        except httpx.RequestError as error:
            return error


def _pause(left: threading.Event, seconds: float) -> bool:
    """Wait so long, or until `left` is set; whether it is."""
    return left.wait(seconds)


async def _chunked_async(
    documents: Iterable[DocumentLike] | AsyncIterable[DocumentLike],
) -> AsyncIterator[list[bytes]]:
    if not isinstance(documents, AsyncIterable):
        for chunk in chunked(documents):
            yield chunk
        return
    chunks = Chunks()
    async for document in documents:
        if full := chunks.add(document):
            yield full
    if rest := chunks.rest():
        yield rest
