"""The controller's end of a system's process."""

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from benchmarks.protocol import Choice, SystemFailed
from benchmarks.work import Slice

ANSWER_SECONDS = 1800.0
"""How long a system may take over one request, a conversion of the checkpoint among them."""


class WorkerProcess:
    """A running worker. Use as a context manager; `log` receives whatever it prints."""

    def __init__(
        self, command: Sequence[str], log: Path, threads: int, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._log = log
        self._answer_seconds = answer_seconds
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(threads),
                bufsize=0,
            )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises SystemFailed if the answer is an error, or does not come.
        """
        assert self._process.stdin
        try:
            _write_all(self._process.stdin.fileno(), orjson.dumps({"do": do, **request}) + b"\n")
            answer: dict[str, Any] = orjson.loads(self._line(do))
        except (BrokenPipeError, orjson.JSONDecodeError) as error:
            raise self._gone(do) from error
        if "error" in answer:
            raise SystemFailed(f"{answer['error']} (more in {self._log})")
        return answer

    def use(self, choice: Choice) -> float:
        """Load the system in a setup; the seconds it took."""
        return float(self.ask("use", choice=choice)["seconds"])

    def take(self, work: Slice) -> None:
        """Hand over the documents of a slice."""
        documents = [[{"id": d.id, "title": d.title, "text": d.text} for d in call] for call in work.calls]
        self.ask("take", slice=work.name, calls=documents)

    def read(self, slice: str) -> tuple[float, int]:
        """Read a slice; seconds, and the most bytes of memory that the process has held."""
        answer = self.ask("read", slice=slice)
        return float(answer["seconds"]), int(answer["peak_rss_bytes"])

    def answers(self, slice: str) -> list[Mapping[str, Any]]:
        """What the system says of each document of a slice."""
        found: list[Mapping[str, Any]] = self.ask("answers", slice=slice)["answers"]
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, do: str) -> bytes:
        assert self._process.stdout
        source = self._process.stdout.fileno()
        line = bytearray()
        until = time.monotonic() + self._answer_seconds
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([source], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.close()
                raise SystemFailed(f"{do}: no answer within {self._answer_seconds:g} s")
            if not (chunk := os.read(source, 1 << 20)):
                raise self._gone(do)
            line += chunk
        return bytes(line)

    def _gone(self, do: str) -> SystemFailed:
        self._process.kill()
        status = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return SystemFailed(f"{do}: the process ended with status {status}: {last} (more in {self._log})")


def environment(threads: int) -> dict[str, str]:
    """The same budget under every name that libraries look for it; packages are the project's."""
    here = str(Path(__file__).parent.parent)
    return {
        **os.environ,
        "PYTHONPATH": here,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Ours and every peer's own threads call NumPy side by side.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_OFFLINE": "1",
    }


def _write_all(target: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(target, view) :]
