"""uvicorn's connection, with an end to the patience for the head of a request.

uvicorn closes a connection that idles after an answer, but waits for ever for one that has not
finished its first line, and for one that sends a line break after an answer, or more of a body that
was answered early: a few thousand such would take every file that the process may open.
"""

import asyncio
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """Is closed when a head has not arrived `head_seconds` after the connection, or the head, began."""

    def __init__(self, *given: Any, head_seconds: float, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head_seconds = head_seconds
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio has accepted it."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio has closed it."""
        self._be_patient()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio has read something."""
        super().data_received(data)
        is_idle = self.cycle is None or self.cycle.response_complete
        # Any byte ends uvicorn's own patience, also one that no head begins with.
        if is_idle and self._patience is None and self.timeout_keep_alive_task is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a head."""
        super().on_message_begin()
        if self._patience is None:  # the first head has the time of its connection
            self._await_head()

    def on_headers_complete(self) -> None:
        """The parser has seen the end of a head."""
        self._be_patient()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(self._head_seconds, self.transport.close)

    def _be_patient(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None


def connections(head_seconds: float) -> Any:
    """What `uvicorn.run(http=…)` makes connections with; worker processes can unpickle it."""
    return partial(Connection, head_seconds=head_seconds)
