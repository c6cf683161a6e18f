"""Errors of whole requests, as RFC 9457 has them."""

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.errors import RequestError
from serving.logs import log


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An `application/problem+json` answer."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def add_handlers(app: FastAPI) -> None:
    """Turn every exception into a problem."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return problem(error.status, error.title, error.detail, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}"
    return problem(error.status_code, str(error.detail), detail, error.headers)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(
        500,
        "Internal error",
        "The request could not be answered; the server's log says why. Please report it.",
    )
