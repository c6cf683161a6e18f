"""What `POST /v1/analyze` does between the body and the answer, off the event loop."""

import asyncio
import gzip
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request, Response

from serving import api, bodies
from serving.admission import Admission, estimated_tokens
from serving.calls import Cancellation
from serving.errors import AbandonedError, DocumentError, RequestError
from serving.loaded import Loaded, ServedModel
from serving.metrics import Metrics
from serving.ndjson import Line, NdjsonResponse
from serving.results import Analysis, Document, Options
from serving.settings import Settings

T = TypeVar("T")
Item = Document | tuple[str | int, DocumentError]
"""A document, or the id and the error of what is none."""

_CALLS_AT_ONCE = 256
"""Threads that wait for the engine. They share its forward passes; what may wait is admission's."""
_GZIP_FROM = 4096
_GZIP_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Service:
    """What requests share."""

    settings: Settings
    model: ServedModel
    admission: Admission
    metrics: Metrics
    calls: anyio.CapacityLimiter

    @classmethod
    def start(cls, settings: Settings, metrics: Metrics) -> "Service":
        """Load the model."""
        admission = Admission(settings.max_queue_tokens, metrics.queue.set)
        model = ServedModel(settings, metrics)
        return cls(settings, model, admission, metrics, anyio.CapacityLimiter(_CALLS_AT_ONCE))

    async def answer(self, request: Request) -> Response:
        """A batch in one body, or a stream of lines."""
        wants_gzip = "gzip" in request.headers.get("accept-encoding", "")
        if bodies.media_type(request) == bodies.NDJSON:
            options = api.options(api.options_of_query(request.query_params))
            self.admission.check()
            loaded = self.model.current
            return NdjsonResponse(
                request, partial(self._answer_lines, loaded, options), self.settings.max_line_bytes,
                gzip=wants_gzip,
            )  # fmt: skip
        content = await bodies.read_body(request, self.settings.max_body_bytes, self.settings.body_seconds)
        cancellation = Cancellation()
        work = partial(self._answer_body, content, cancellation)
        answer = await self._while_listening(request, work, cancellation)
        if answer is None:
            return Response(status_code=499)  # nobody is there to read it
        headers = {"vary": "accept-encoding"}
        if wants_gzip and len(answer) >= _GZIP_FROM:
            answer = await anyio.to_thread.run_sync(partial(gzip.compress, answer, _GZIP_LEVEL, mtime=0))
            headers["content-encoding"] = "gzip"
        return Response(answer, media_type=bodies.JSON, headers=headers)

    def _answer_body(self, content: bytes, cancellation: Cancellation) -> bytes:
        request = api.parse_request(content, self.settings.max_documents)
        items = [api.parse_document(item, index) for index, item in enumerate(request.documents)]
        loaded = self.model.current
        with self.admission(_cost(items)):
            analyses = self._analyze(loaded, items, api.options(request.options), cancellation)
            return api.response_body(loaded.folder, analyses)

    async def _answer_lines(
        self, loaded: Loaded, options: Options, lines: Sequence[Line], cancellation: Cancellation
    ) -> bytes:
        def work() -> bytes:
            limit = self.settings.max_line_bytes
            items = [api.parse_line(line.content, line.number, limit) for line in lines]
            with self.admission(_cost(items), refuse=False):
                analyses = self._analyze(loaded, items, options, cancellation)
                return api.result_lines(loaded.folder, analyses)

        return await anyio.to_thread.run_sync(work, limiter=self.calls)

    def _analyze(
        self, loaded: Loaded, items: Sequence[Item], options: Options, cancellation: Cancellation
    ) -> list[Analysis]:
        """Read items: each gives an analysis or its own error, in order."""
        documents = [item for item in items if isinstance(item, Document)]
        read, cached = loaded.analyze(documents, options, cancellation)
        analyses = iter(read)
        results = [api.problem(*i) if isinstance(i, tuple) else next(analyses) for i in items]
        for result in results:
            self.metrics.documents.labels(result.error.code if result.error else "read").inc()
            if result.coverage and result.coverage.truncated:
                self.metrics.truncated.inc()
        self.metrics.cached.inc(cached)
        return results

    async def _while_listening(
        self, request: Request, work: Callable[[], T], cancellation: Cancellation
    ) -> T | None:
        """Run `work` on a thread; None if the caller leaves. Raises RequestError 503 if it takes too long."""
        task = asyncio.ensure_future(anyio.to_thread.run_sync(work, limiter=self.calls))
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            seconds = self.settings.answer_seconds
            await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            left = gone.done()
        finally:
            gone.cancel()
            cancellation.cancel()  # without effect on what is done
        with suppress(AbandonedError):
            await task
        self.metrics.cancelled.inc()
        if left:
            return None
        raise RequestError(
            503, "Too slow", f"No answer within {seconds:g} s; send fewer or shorter documents a request.",
            headers={"Retry-After": "1"},
        )  # fmt: skip


def _cost(items: Sequence[Item]) -> int:
    documents = [item for item in items if isinstance(item, Document)]
    return sum(estimated_tokens(len(d.text) + len(d.title or "")) for d in documents)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
