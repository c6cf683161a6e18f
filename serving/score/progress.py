"""How far a run is: a bar on stderr where that is a terminal, nothing elsewhere; a summary at the end."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from serving.results import Analysis
from serving.score.scoring import Counts

_SPEED_OVER_SECONDS = 600.0
"""Parts come seldom; the time that is left is estimated over many."""


class ProgressView:
    """Documents and tokens a second, rejects, and the time that is left by the bytes of the inputs."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("scoring"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=_SPEED_OVER_SECONDS,
        )
        self._task = self._bar.add_task("reading the inputs", total=None)
        self._started = time.monotonic()
        self._counting = threading.Lock()
        self._documents = 0
        self._tokens = 0
        self._rejected = 0

    def begin(self, total_bytes: int | None, done_bytes: int, done: Counts) -> None:
        """The engine starts; `done` was done before. `total_bytes` is None where nobody knows."""
        self._started = time.monotonic()
        self._rejected = done.rejected
        self._bar.reset(self._task, total=total_bytes, completed=done_bytes, description="")

    def piece(self, analyses: Sequence[Analysis]) -> None:
        """Some texts were read. Safe to call from many threads."""
        with self._counting:
            self._documents += len(analyses)
            self._tokens += sum(analysis.coverage.tokens for analysis in analyses if analysis.coverage)
        seconds = max(time.monotonic() - self._started, 1e-9)
        self._bar.update(
            self._task,
            description=f"{self._documents / seconds:,.1f} documents/s  "
            f"{self._tokens / seconds:,.0f} tokens/s  {self._rejected:,} rejected",
        )

    def part(self, counts: Counts, done_bytes: int) -> None:
        """A part was written."""
        self._rejected += counts.rejected
        self._bar.update(self._task, completed=done_bytes)

    def __enter__(self) -> "ProgressView":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def summary(counts: Counts, before: Counts, seconds: float) -> str:
    """A line that reconciles, and one on the speed of this session; `before` was done by earlier ones."""
    lines = f"read {counts.read:,} = written {counts.written:,} + rejected {counts.rejected:,}"
    if counts.repeated:
        lines += f"; {counts.repeated:,} repeated texts were scored once"
    documents, tokens = counts.read - before.read, counts.tokens - before.tokens
    if documents:
        lines += (
            f"\n{documents:,} documents, {tokens:,} tokens in {seconds:,.1f} s: "
            f"{documents / seconds:,.1f} documents/s, {tokens / seconds:,.0f} tokens/s"
        )
    if before.read:
        lines += f"\n{before.read:,} documents had been done before"
    return lines
