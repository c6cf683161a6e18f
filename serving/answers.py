"""What happens between the body of a request and its answer, off the event loop."""

import asyncio
import gzip
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request, Response

from serving import api, bodies
from serving.admission import PLACES, Admission, estimated_tokens
from serving.calls import Cancellation
from serving.errors import TOO_SLOW, DocumentError, EmbargoError, RequestError
from serving.forward import available_cpus
from serving.held import Held
from serving.loaded import Loaded, ServedModel
from serving.logs import log
from serving.metrics import Metrics
from serving.ndjson import Line, NdjsonResponse
from serving.results import Analysis, Document, Options
from serving.settings import Settings

T = TypeVar("T")
Item = Document | tuple[str | int, DocumentError]
"""A document, or the id and the error of what is none."""

_STREAM_CALLS = 16
"""Threads that wait for the engine with lines of streams; how many tokens these have is admission's matter,
how many bytes that of `held`."""
_BODIES_AT_ONCE = 8
"""Bodies of full length that may be in memory; of short ones many more."""
_GZIP_FROM = 4096
_GZIP_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A body, understood: what to read and how, and how to write down what was found."""

    items: Sequence[Item]
    options: Options
    write: Callable[[Loaded, Sequence[Analysis]], bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the answer's head says besides."""


Understand = Callable[[bytes, Loaded, Settings], Asked]
"""Raises RequestError where a body cannot be understood. The model is the one that will answer."""


@dataclass(frozen=True, slots=True)
class Service:
    """What requests share."""

    settings: Settings
    model: ServedModel
    admission: Admission
    metrics: Metrics
    parsing: anyio.CapacityLimiter
    """Threads that understand bodies; as many as can work at once."""
    calls: anyio.CapacityLimiter
    """Threads that wait for the engine; one for each place of admission, so nobody waits for them."""
    streams: anyio.CapacityLimiter
    held: Held
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is about to stop."""
    abandoned: set[asyncio.Task[Any]] = field(default_factory=set)
    """Calls that nobody waits for and that have not ended yet."""

    @classmethod
    def start(cls, settings: Settings, metrics: Metrics) -> "Service":
        """Load the model."""
        model = ServedModel(settings, metrics)
        speed = model.current.tokens_per_second
        admission = Admission(settings.max_queue_tokens, speed, metrics.queue.set)
        parsing = anyio.CapacityLimiter(available_cpus())
        calls, streams = anyio.CapacityLimiter(PLACES), anyio.CapacityLimiter(_STREAM_CALLS)
        held = Held(
            _BODIES_AT_ONCE * settings.max_body_bytes,
            lambda size: admission.wait_seconds(estimated_tokens(size)),
        )
        return cls(settings, model, admission, metrics, parsing, calls, streams, held)

    async def answer(self, request: Request) -> Response:
        """`POST /v1/analyze`: a batch in one body, or a stream of lines."""
        if bodies.media_type(request, bodies.JSON, bodies.NDJSON) == bodies.JSON:
            return await self.answer_json(request, _native)
        options = api.options(api.options_of_query(request.query_params))
        bodies.content_encoding(request)  # 415 while there still is a status to say it with
        self.admission.check()
        loaded = self.model.current
        settings = self.settings
        return NdjsonResponse(
            request, partial(self._answer_lines, loaded, options), self._abandon,
            line_limit=settings.max_line_bytes, line_seconds=settings.body_seconds,
            held=self.held, gzip=_wants_gzip(request), stopping=self.stopping,
        )  # fmt: skip

    async def answer_json(self, request: Request, understand: Understand) -> Response:
        """One body of JSON, in whatever shape `understand` knows."""
        bodies.media_type(request, bodies.JSON)
        # About what it costs is known before it is read.
        self.admission.check(estimated_tokens(bodies.declared_bytes(request)))
        with self.held.body() as add:
            settings = self.settings
            content = await bodies.read_body(request, settings.max_body_bytes, settings.body_seconds, add)
            cancellation = Cancellation()
            work = self._answer_body(content, understand, cancellation, packed=_wants_gzip(request))
            answered = await self._while_listening(request, work, cancellation)
        return answered or Response(status_code=499)  # nobody is there to read it

    async def _answer_body(
        self, content: bytes, understand: Understand, cancellation: Cancellation, *, packed: bool
    ) -> Response:
        loaded = self.model.current

        def parse() -> Asked:
            cancellation.check()
            return understand(content, loaded, self.settings)

        asked = await anyio.to_thread.run_sync(parse, limiter=self.parsing)
        cancellation.check()

        def work() -> Response:
            analyses = self._analyze(loaded, asked.items, asked.options, cancellation)
            return _response(asked.write(loaded, analyses), asked.headers, packed=packed)

        with self.admission(_cost(asked.items)):  # before a thread is taken: 429 comes at once
            return await anyio.to_thread.run_sync(work, limiter=self.calls)

    async def _answer_lines(
        self, loaded: Loaded, options: Options, lines: Sequence[Line], cancellation: Cancellation
    ) -> bytes:
        def work() -> bytes:
            limit = self.settings.max_line_bytes
            cancellation.check()
            items = [api.parse_line(line.content, line.number, limit) for line in lines]
            analyses = self._analyze(loaded, items, options, cancellation)
            return api.result_lines(loaded.folder, analyses)

        cancellation.check()
        cancellation.waits = True
        # What lines cost is known before they are parsed: they are little more than their text.
        async with self.admission.room(estimated_tokens(sum(len(line.content or b"") for line in lines))):
            cancellation.waits = False
            return await anyio.to_thread.run_sync(work, limiter=self.streams)

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
        self, request: Request, work: Coroutine[Any, Any, T], cancellation: Cancellation
    ) -> T | None:
        """Do `work`; None if the caller leaves. Raises RequestError 503 if it takes too long.

        Work that is given up ends by itself, at its next step, and keeps its place until then.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(bodies.until_gone(request))
        seconds = self.settings.answer_seconds
        try:
            await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            left = gone.done()
        finally:
            gone.cancel()
            if not task.done():
                self._abandon(task, cancellation)
        if left:
            self.metrics.cancelled.inc()
            return None
        raise RequestError(
            503, TOO_SLOW, f"No answer within {seconds:g} s; send fewer or shorter documents a request."
        )

    def _abandon(self, task: asyncio.Task[Any], cancellation: Cancellation) -> None:
        """Give up a call. It ends by itself: to cancel its task would free its place and stop no thread."""
        cancellation.cancel()
        if cancellation.waits:
            task.cancel()
        self.abandoned.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.abandoned.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error and not isinstance(error, EmbargoError):
            log.error("a call failed that was given up", exc_info=error)


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service


def _native(content: bytes, loaded: Loaded, settings: Settings) -> Asked:
    """The shape of `POST /v1/analyze`."""
    request = api.parse_request(content, settings.max_documents)
    items = [api.parse_document(item, index) for index, item in enumerate(request.documents)]
    return Asked(items, api.options(request.options), _write_native)


def _write_native(loaded: Loaded, analyses: Sequence[Analysis]) -> bytes:
    return api.response_body(loaded.folder, analyses)


def _response(answer: bytes, further: Mapping[str, str], *, packed: bool) -> Response:
    headers = {"vary": "accept-encoding", **further}
    if packed and len(answer) >= _GZIP_FROM:
        answer = gzip.compress(answer, _GZIP_LEVEL, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(answer, media_type=bodies.JSON, headers=headers)


def _wants_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return not re.fullmatch(r"q=0(\.0*)?", weight)
    return False


def _cost(items: Sequence[Item]) -> int:
    documents = [item for item in items if isinstance(item, Document)]
    return sum(estimated_tokens(len(d.text) + len(d.title or "")) for d in documents)
