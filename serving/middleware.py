"""What happens to every request: an id, a log line, its numbers, safe headers, a key where asked.

From the outside in: Watched, CORS where allowed, Rescue, KeyCheck.
"""

import hmac
import re
import time
import uuid
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import bodies
from serving.logs import log, request_id
from serving.metrics import Metrics
from serving.problems import problem

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/presidio/health", "/", "/docs", "/redoc", "/openapi.json"})
"""What load balancers ask without a key; and pages that tell nothing but how to give one."""
_OPEN_FOLDERS = ("/page/", "/static-offline-docs/")
"""The files of those pages."""
_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


class Watched:
    """Gives each request an id, counts and logs it, and adds headers to its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        id_ = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request_id.set(id_)
        begun, status, streamed = time.perf_counter(), 0, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                streamed = headers.get("content-type") == bodies.NDJSON
                headers["x-request-id"] = id_
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._count(scope, status, time.perf_counter() - begun, streamed=streamed)

    def _count(self, scope: Scope, status: int, seconds: float, *, streamed: bool) -> None:
        # The route's pattern and not the path, which callers choose.
        route = getattr(scope.get("route"), "path", "(none)")
        # 0: the caller left before an answer began (nginx calls it 499).
        self._metrics.requests.labels(scope["method"], route, str(status or 499)).inc()
        self._metrics.seconds.labels(route, str(streamed).lower()).observe(seconds)
        log.info(
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status or 499,
                "milliseconds": round(1000 * seconds, 1),
            },
        )


class Rescue:
    """Answers an unexpected error with a problem that says nothing of it; the log does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI call."""
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http":
                raise
            log.error("unexpected error", exc_info=error)
            if begun:
                raise  # the connection ends, so that the answer is not taken for whole
            await _internal_error()(scope, receive, send)


def _internal_error() -> Response:
    detail = "The request could not be answered; the server's log says why. Please report it."
    return problem(500, "Internal error", detail)


class KeyCheck:
    """Lets only callers with a known key pass; keys are known by their hash."""

    def __init__(self, app: ASGIApp, hashes: tuple[str, ...]) -> None:
        self._app = app
        self._hashes = hashes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI call."""
        if scope["type"] != "http" or _is_open(scope) or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        answer = problem(
            401,
            "No valid key",
            "Expected a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
            {"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        # Headers are decoded as Latin-1, and keys hashed as the bytes they are.
        digest = sha256(key.encode("latin-1").strip()).hexdigest()
        # All are compared, each in constant time, so that time tells nothing.
        return bool(key) & any([hmac.compare_digest(digest, known) for known in self._hashes])


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(_OPEN_FOLDERS))
