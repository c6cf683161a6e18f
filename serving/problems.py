"""Errors of whole requests, as RFC 9457 has them."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.errors import RequestError


class ProblemResponse(JSONResponse):
    """An `application/problem+json` answer. It may quote what was sent, lone surrogates too."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """JSON in UTF-8."""
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An `application/problem+json` answer."""
    return ProblemResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        headers=dict(headers or {}),
    )


def add_handlers(app: FastAPI) -> None:
    """Turn errors that are meant into problems; Rescue answers others (serving/middleware.py)."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return problem(error.status, error.title, error.detail, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}"
    return problem(error.status_code, str(error.detail), detail, error.headers)
