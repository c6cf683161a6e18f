"""Structured logs: one JSON object a line, with the request's id and never a document's text."""

import contextvars
import logging
import sys
import traceback

from pythonjsonlogger.json import JsonFormatter

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
log = logging.getLogger("embargo")


class _WithRequest(logging.Filter):
    """Adds the request's id, and takes out what an exception says, which may quote a document."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        if record.exc_info and record.exc_info[0]:
            record.error = record.exc_info[0].__name__
            record.trace = "".join(traceback.format_tb(record.exc_info[2]))
        record.exc_info = None
        record.__dict__.pop("color_message", None)  # uvicorn's, for terminals
        return True


class _Unbreakable(logging.StreamHandler):  # type: ignore[type-arg]
    """A log that cannot be written (disk full, pipe closed) stops no request."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the service goes on."""


def configure(level: str) -> None:
    """Write the service's and uvicorn's logs to stderr as JSON."""
    handler = _Unbreakable(sys.stderr)
    handler.addFilter(_WithRequest())
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}{request_id}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    for name in ("embargo", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
