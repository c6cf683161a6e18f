"""`embargo serve` as a process, on CPUs of its own, and the processes beside it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from benchmarks.memory import Memory
from benchmarks.process import WorkerProcess, environment
from benchmarks.protocol import SystemFailed
from serving.forward import available_cpus

_READY_SECONDS = 120.0
_STOP_SECONDS = 30.0


def divided_cpus() -> tuple[list[int], list[int]]:
    """CPUs for what is measured, and those for who calls it: the last one, or the only one."""
    cpus = sorted(os.sched_getaffinity(0))[: available_cpus()]
    return (cpus[:-1], cpus[-1:]) if len(cpus) > 1 else (cpus, cpus)


def beside(module: str, log: Path, threads: int) -> WorkerProcess:
    """A process that answers requests, such as `benchmarks.load`."""
    return WorkerProcess([sys.executable, "-m", module], log, threads)


class Served:
    """A running service. Use as a context manager; its log goes to a file."""

    def __init__(self, model: Path, cpus: Sequence[int], log: Path, **settings: str) -> None:
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        # Before anything is imported: libraries count CPUs when they are.
        code = f"import os; os.sched_setaffinity(0, {list(cpus)}); from training.cli import main; main()"
        self._command = [sys.executable, "-c", code, "serve", "--model", str(model), "--port", str(self.port)]
        # As the engine's process has it, which it is compared with.
        others = {n: value for n, value in environment(len(cpus)).items() if not n.startswith("EMBARGO_")}
        self._environment = others | {f"EMBARGO_{name.upper()}": value for name, value in settings.items()}

    def __enter__(self) -> "Served":
        """Start it and wait until it is ready. Raises SystemFailed if it ends, or does not become ready."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=errors, stderr=errors
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        while self.is_alive and time.monotonic() < until:
            try:
                self.get("/readyz")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemFailed(f"the service did not become ready; its log is {self._log}")

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def get(self, path: str) -> str:
        """What a GET answers. Raises OSError where that is not 200, or not whole."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                content: bytes = answer.read()
        except HTTPException as error:
            raise ConnectionError(f"{path}: no whole answer ({error!r})") from error
        return content.decode()

    def metric(self, name: str) -> float:
        """A number without labels of `/metrics`."""
        lines = self.get("/metrics").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def rss_bytes(self) -> int:
        """Memory that the process holds now; 0 once it has ended."""
        return Memory.of(self._process.pid).resident
