"""Running services for tests: in a thread, or as users start one."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx
import orjson
import uvicorn

from serving.app import create_app
from serving.connection import connections
from serving.forward import Batch, TokenOutputs
from serving.settings import Settings

ROOT = Path(__file__).parent.parent
NDJSON = {"content-type": "application/x-ndjson"}


class Server:
    """A service on a port of its own, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=0, log_level="error", http=connections(settings.head_seconds)
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()

    @property
    def service(self) -> Any:
        return self.app.state.service

    def slow(self, wait: Callable[[], object]) -> None:
        """Make every forward pass wait first."""
        passes = self.service.model.current.analyzer.run.passes
        forward = passes.forward

        def slowly(batch: Batch) -> TokenOutputs:
            wait()
            outputs: TokenOutputs = forward(batch)
            return outputs

        passes.forward = slowly


class Process:
    """`embargo serve` as users run it."""

    def __init__(self, model: Path, *flags: str, stderr: IO[bytes] | None = None, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        code = "from training.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "--model", str(model), "--port", str(self.port)]
        settings = {f"EMBARGO_{name.upper()}": value for name, value in environment.items()}
        # A file and no pipe: a pipe that nobody empties would stop the service.
        self._log = stderr or tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, *flags], env={**os.environ, **settings}, stderr=self._log, cwd=ROOT
        )

    def __enter__(self) -> "Process":
        for _ in range(600):
            assert self.process.poll() is None
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("not ready after a minute")

    def __exit__(self, *unused: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        with self._log:
            if self._log.readable():
                self._log.seek(0)
                self.errors = self._log.read()

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        # Beside the workers, multiprocessing has a process that tracks resources.
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def body(*texts: str) -> dict[str, Any]:
    return {"documents": [{"text": text} for text in texts]}


def lines(count: int) -> bytes:
    rows = ({"id": f"d{i}", "text": f"Oil in Russia {i}. " * (i % 7 + 1)} for i in range(count))
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)
