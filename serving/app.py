"""The HTTP service. `create_app` builds it, the lifespan loads the model."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware

from serving import api, hugging_face, logs, openapi, page, presidio, problems
from serving.answers import Service, service_of
from serving.errors import EmbargoError, ModelFolderError
from serving.logs import log
from serving.metrics import Metrics
from serving.middleware import KeyCheck, Rescue, Watched
from serving.settings import Settings

_DESCRIPTION = "Reads sanctions news: document labels, entity spans and the sentences that support them."


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service; the model is opened, checked and loaded when it starts."""
    chosen = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(chosen.log_level)
        app.state.draining = False
        app.state.service = await anyio.to_thread.run_sync(Service.start, chosen, metrics)
        metrics.swaps.labels("loaded").inc()
        _listen_for_signals(app, chosen)
        yield

    # Its documentation pages come from the package, not from a CDN.
    app = FastAPIOffline(title="Embargo", version="1", description=_DESCRIPTION, lifespan=lifespan)
    app.state.metrics = metrics
    problems.add_handlers(app)
    _add_routes(app)
    hugging_face.add_routes(app)
    presidio.add_routes(app)
    page.add_page(app)
    shapes: list[type[BaseModel]] = [*api.SHAPES, *hugging_face.SHAPES, *presidio.SHAPES]
    openapi.complete(app, shapes, asks_for_keys=bool(chosen.api_keys))
    if chosen.api_keys:
        app.add_middleware(KeyCheck, hashes=chosen.api_keys)
    app.add_middleware(Rescue)  # inside of CORS: a page must be able to read that something failed
    if chosen.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=chosen.cors_origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )  # fmt: skip
    app.add_middleware(Watched, metrics=metrics)
    return app


def _listen_for_signals(app: FastAPI, settings: Settings) -> None:
    """SIGHUP loads the model anew; SIGTERM makes the service unready before it is left, SIGINT leaves now."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, _swap, app))
    except (ValueError, RuntimeError, NotImplementedError):
        return  # signals come to the main thread alone; tests run in another
    stops = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def leave(number: int, frame: FrameType | None) -> None:
        app.state.draining = True
        loop.call_soon_threadsafe(app.state.service.stopping.set)  # a stream may have no end of its own
        if callable(stop := stops[signal.Signals(number)]):
            stop(number, frame)

    def drain(number: int, frame: FrameType | None) -> None:
        app.state.draining = True
        loop.call_soon_threadsafe(loop.call_later, settings.drain_seconds, leave, number, frame)

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, leave)


def _swap(app: FastAPI) -> None:
    """The folder's model takes the place of the one that answers, if it is sound."""
    try:
        app.state.service.model.reload()
    except EmbargoError as error:
        app.state.metrics.swaps.labels("refused").inc()
        log.error("model not replaced: %s", error)
    except Exception:  # a damaged graph or tokenizer: what their libraries raise is not known
        app.state.metrics.swaps.labels("refused").inc()
        log.exception("model not replaced")
    else:
        app.state.metrics.swaps.labels("loaded").inc()


def _add_routes(app: FastAPI) -> None:
    @app.post(
        "/v1/analyze",
        response_model=api.AnalyzeResponse,
        responses=openapi.RESPONSES,
        openapi_extra={"requestBody": openapi.ANALYZE_BODY},
    )
    async def analyze(request: Request) -> Response:
        """Read a batch of documents; order and ids are kept, a bad item carries its error."""
        return await service_of(request).answer(request)

    @app.get("/healthz")
    @app.head("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    @app.head("/readyz", include_in_schema=False)
    async def readyz(request: Request) -> Response:
        """The model is loaded, its folder matches its manifest, and requests are taken."""
        service = service_of(request)
        if request.app.state.draining:
            return problems.problem(503, "Not ready", "The service is about to stop.")
        try:
            await anyio.to_thread.run_sync(service.model.check)
        except ModelFolderError as error:
            return problems.problem(503, "Not ready", str(error))
        identity = api.model_identity(service.model.current.folder)
        return JSONResponse({"status": "ready", "model": identity})

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Numbers for Prometheus."""
        content = await anyio.to_thread.run_sync(request.app.state.metrics.text)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/model", responses={200: {"model": api.ModelCardOut}})
    async def model(request: Request) -> dict[str, Any]:
        """What the model knows: types, labels with thresholds, hashes, limits."""
        service = service_of(request)
        loaded, settings = service.model.current, service.settings
        config = loaded.analyzer.config
        return {
            **api.model_identity(loaded.folder),
            **config.model_dump(exclude={"name", "version"}),
            "limits": {
                **config.limits.model_dump(),
                "max_documents": settings.max_documents,
                "max_body_bytes": settings.max_body_bytes,
                "max_line_bytes": settings.max_line_bytes,
                "max_queue_tokens": settings.max_queue_tokens,
                "answer_seconds": settings.answer_seconds,
            },
        }
