"""Every conversation with the service, without I/O: what `Client` and `AsyncClient` share.

What is asked, what an answer means and when to ask again is decided here. A conversation is a
generator: it yields a call or a wait, is sent the reply, and returns what came of it.
"""

import email.utils
import json
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import orjson
from pydantic import BaseModel, ValidationError

from serving.api import AnalyzeResponse, DocumentIn, LineOut, ModelCardOut, OptionsIn
from serving.errors import TOO_SLOW, BusyError, ProblemError, ServiceError, UnreachableError

T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)
DocumentLike = str | DocumentIn

_CHUNK_LINES, _CHUNK_BYTES = 32, 1024 * 1024
"""A request of a stream. The service takes so many lines in before it must be listened to, so that
the two never wait for each other: HTTP/1.1 clients send everything before they read."""
_TO_PASS = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)
"""What may be better a moment later. A time-out of reading is not: the service is at work."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When to ask again after 429, 503 or a broken connection; other answers are final."""

    attempts: int = 5
    """Calls after the first."""
    patience_seconds: float = 180.0
    """All waits together; one that would exceed it is not begun."""
    first_seconds: float = 0.5
    """The first wait where the service names none; each further one is twice as long."""

    def wait(self, attempt: int, told: float | None) -> float:
        """Seconds before call `attempt` + 1: never sooner than told, and never all at once."""
        if told is not None:
            return told + random.uniform(0, 0.1 + told / 10)
        backoff = self.first_seconds * 2 ** (attempt - 1)
        return random.uniform(backoff / 2, backoff)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be sent; `path` is below the service's address."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so long."""

    seconds: float


Reply = httpx.Response | httpx.RequestError | None
Talk = Generator[Call | Wait, Reply, T]
"""A conversation that ends with a T. The first `send` and that after a wait bring None."""


class Conversations:
    """What can be talked about; each raises ServiceError."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry

    def analyze(self, documents: Iterable[DocumentLike], options: OptionsIn) -> Talk[AnalyzeResponse]:
        """One batch."""
        rows = [_row(document) for document in documents]
        content = _json({"documents": rows, "options": options.model_dump(exclude_none=True)})
        headers = {"content-type": "application/json"}
        reply = yield from self._answer(Call("POST", "v1/analyze", content, headers))
        return _parsed(AnalyzeResponse, reply.content)

    def lines(self, chunk: Sequence[bytes], options: OptionsIn) -> Talk[list[LineOut]]:
        """One request of a stream: a line a document, a result a line."""
        headers = {"content-type": "application/x-ndjson"}
        params = options.model_dump(exclude_none=True)
        call = Call("POST", "v1/analyze", b"".join(chunk), headers, params)
        reply = yield from self._answer(call)
        found = [_line(reply, line) for line in reply.content.splitlines()]
        if len(found) != len(chunk):
            raise ServiceError(f"{len(chunk)} documents were sent and {len(found)} results came back.")
        return found

    def model(self) -> Talk[ModelCardOut]:
        """The card of the model that answers."""
        reply = yield from self._answer(Call("GET", "v1/model"))
        return _parsed(ModelCardOut, reply.content)

    def ready(self) -> Talk[bool]:
        """Whether requests are taken; asked once."""
        reply = yield Call("GET", "readyz")
        return isinstance(reply, httpx.Response) and reply.is_success

    def _answer(self, call: Call) -> Talk[httpx.Response]:
        waited, attempt = 0.0, 0
        while True:
            reply = yield call
            if isinstance(reply, httpx.Response) and reply.is_success:
                return reply
            assert reply is not None
            error = _error(reply)
            attempt += 1
            told = error.retry_after if isinstance(error, BusyError) else None
            wait = self._retry.wait(attempt, told)
            final = not isinstance(error, BusyError) and not isinstance(reply, _TO_PASS)
            if final or attempt > self._retry.attempts or waited + wait > self._retry.patience_seconds:
                raise error from (reply if isinstance(reply, httpx.RequestError) else None)
            waited += wait
            yield Wait(wait)


class Chunks:
    """Documents as lines, gathered until they fill a request."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._count = 0

    def add(self, document: DocumentLike) -> list[bytes] | None:
        """The request that this document fills, if it does."""
        # A missing id is the place in the whole stream, not that in the request.
        self._lines.append(_json({"id": str(self._count), **_row(document)}) + b"\n")
        self._count += 1
        full = len(self._lines) == _CHUNK_LINES or sum(map(len, self._lines)) >= _CHUNK_BYTES
        return self.rest() if full else None

    def rest(self) -> list[bytes]:
        """What was gathered and not yet sent."""
        lines, self._lines = self._lines, []
        return lines


def chunked(documents: Iterable[DocumentLike]) -> Iterator[list[bytes]]:
    """Documents as the requests of a stream."""
    chunks = Chunks()
    for document in documents:
        if full := chunks.add(document):
            yield full
    if rest := chunks.rest():
        yield rest


def _row(document: DocumentLike) -> dict[str, Any]:
    return {"text": document} if isinstance(document, str) else document.model_dump(exclude_none=True)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate; the service names it as that document's error
        return json.dumps(value).encode()


def _parsed(shape: type[Shape], content: bytes) -> Shape:
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        raise ServiceError(
            f"The answer is no {shape.__name__} ({error.error_count()} errors); expected an Embargo "
            "service of this version at this URL."
        ) from error


def _line(reply: httpx.Response, line: bytes) -> LineOut:
    row = _loaded(line)
    if "id" not in row and isinstance(row.get("error"), dict):  # the stream's own, which ends it
        problem = row["error"]
        raise ProblemError(reply.status_code, problem.get("code", ""), problem.get("message", ""))
    return _parsed(LineOut, line)


def _loaded(content: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _error(reply: httpx.Response | httpx.RequestError) -> ServiceError:
    if isinstance(reply, httpx.RequestError):
        said = str(reply) or type(reply).__name__
        return UnreachableError(f"{reply.request.url} gave no good answer ({said}); is the service up?")
    told = _loaded(reply.content)
    title = str(told.get("title", reply.reason_phrase))
    detail = str(told.get("detail", reply.text[:200]))
    # A request that was too slow will be so again.
    passes = reply.status_code in (429, 503) and title != TOO_SLOW
    kind = BusyError if passes else ProblemError
    error = kind(reply.status_code, title, detail, reply.headers.get("x-request-id"))
    if isinstance(error, BusyError):
        error.retry_after = _retry_after(reply.headers.get("retry-after", ""))
    return error


def _retry_after(told: str) -> float | None:
    """Seconds, from either form that HTTP knows."""
    if told.isdigit():
        return float(told)
    try:
        date = email.utils.parsedate_to_datetime(told)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
