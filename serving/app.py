"""The HTTP service. `create_app` builds it, the lifespan loads the model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.datastructures import State
from starlette.exceptions import HTTPException

from serving import api, openapi, page
from serving.analyzer import Analyzer
from serving.errors import RequestError
from serving.forward import available_cpus
from serving.model_folder import ModelFolder
from serving.results import Analysis, Options
from serving.settings import Settings

_DESCRIPTION = "Reads sanctions news: document labels, entity spans and the sentences that support them."


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service; the model is opened, checked and loaded when it starts."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.folder = await anyio.to_thread.run_sync(ModelFolder.open, chosen.model)
        app.state.analyzer = await anyio.to_thread.run_sync(_load, app.state.folder, chosen)
        # As many requests at work as forward passes run in parallel; more would only wait.
        app.state.limiter = anyio.CapacityLimiter(chosen.threads or available_cpus())
        yield

    # Its documentation pages come from the package, not from a CDN.
    app = FastAPIOffline(title="Embargo", version="1", description=_DESCRIPTION, lifespan=lifespan)
    app.state.settings = chosen
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)
    _add_routes(app)
    page.add_page(app)
    openapi.complete(app)
    return app


def _load(folder: ModelFolder, settings: Settings) -> Analyzer:
    analyzer = Analyzer.load(folder, threads=settings.threads)
    if settings.max_characters is None:
        return analyzer
    limits = folder.config.limits.model_copy(update={"max_characters": settings.max_characters})
    return analyzer.with_config(folder.config.model_copy(update={"limits": limits}))


def _add_routes(app: FastAPI) -> None:
    @app.post(
        "/v1/analyze",
        response_model=api.AnalyzeResponse,
        responses=openapi.RESPONSES,
        openapi_extra={"requestBody": openapi.REQUEST_BODY},
    )
    async def analyze(request: Request) -> Response:
        """Read a batch of documents; order and ids are kept, a bad item carries its error."""
        state = request.app.state
        content = await _read_body(request, state.settings.max_body_bytes)
        answer = await anyio.to_thread.run_sync(_answer, state, content, limiter=state.limiter)
        return Response(answer, media_type="application/json")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(request: Request) -> dict[str, Any]:
        """The model is loaded and matches its manifest."""
        return {"status": "ready", "model": api.model_identity(request.app.state.folder)}

    @app.get("/v1/model")
    async def model(request: Request) -> dict[str, Any]:
        """What the model knows: types, labels with thresholds, hashes, limits."""
        state = request.app.state
        config, settings = state.analyzer.config, state.settings
        return {
            **api.model_identity(state.folder),
            **config.model_dump(exclude={"name", "version"}),
            "limits": {
                **config.limits.model_dump(),
                "max_documents": settings.max_documents,
                "max_body_bytes": settings.max_body_bytes,
            },
        }


def _answer(state: State, content: bytes) -> bytes:
    """Parse, read and serialise, all off the event loop."""
    request = api.parse_request(content, state.settings.max_documents)
    analyses = analyze_items(state.analyzer, request.documents, api.options(request.options))
    return api.response_body(state.folder, analyses)


def analyze_items(analyzer: Analyzer, items: list[Any], options: Options) -> list[Analysis]:
    """Read unchecked items: each gives an analysis or its own error, in order."""
    parsed = [api.parse_document(item, index) for index, item in enumerate(items)]
    documents = [entry for entry in parsed if not isinstance(entry, tuple)]
    analyses = iter(analyzer.analyze(documents, options))
    return [api.problem(*entry) if isinstance(entry, tuple) else next(analyses) for entry in parsed]


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be too large or of another type."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestError(
            415,
            "Unsupported media type",
            f"Got Content-Type {media_type or '(none)'!r}; expected application/json.",
        )
    too_large = RequestError(
        413, "Body too large", f"At most {limit} bytes are read; send fewer documents a request."
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise too_large
    return bytes(content)


def _problem(status: int, title: str, detail: str) -> JSONResponse:
    """RFC 9457."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _problem(error.status, error.title, error.detail)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _problem(error.status_code, str(error.detail), f"{request.method} {request.url.path}")
    response.headers.update(error.headers or {})
    return response


async def _unexpected_error(request: Request, error: Exception) -> Response:
    return _problem(
        500,
        "Internal error",
        "The request could not be answered; the server's log says why. Please report it.",
    )
