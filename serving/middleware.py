"""What happens to every request: an id, a log line, its numbers, safe headers, a key where asked."""

import hmac
import re
import time
import uuid
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.logs import log, request_id
from serving.metrics import Metrics
from serving.problems import problem

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_OPEN_PATHS = ("/healthz", "/readyz", "/presidio/health")
"""What load balancers ask without a key."""
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
        begun, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = id_
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            log.error("unexpected error", exc_info=error)
            if status:
                raise  # an answer has begun: the connection ends, so that it is not taken for whole
            await _internal_error()(scope, receive, send_with_headers)
        finally:
            self._count(scope, status, time.perf_counter() - begun)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern and not the path, which callers choose.
        route = getattr(scope.get("route"), "path", "(none)")
        # 0: the caller left before an answer began (nginx calls it 499).
        self._metrics.requests.labels(scope["method"], route, str(status or 499)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        log.info(
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status or 499,
                "milliseconds": round(1000 * seconds, 1),
            },
        )


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
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS or self._knows(Headers(scope=scope)):
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
        digest = sha256(key.strip().encode()).hexdigest()
        # All are compared, each in constant time, so that time tells nothing.
        return bool(key) & any([hmac.compare_digest(digest, known) for known in self._hashes])
