"""How far a training run is: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; yields what to call with the number done."""
    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


class ProgressView:
    """Shows on stderr what a run reports; call it as `training.train.Progress` says."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._shown_at = time.monotonic()
        self._began: tuple[float, int] | None = None
        """When the first step of this run was done, and how many then: a checkpoint may hold some."""
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("")

    def __call__(self, done: int, total: int, line: str) -> None:
        """A line that ends in a line break stays, another replaces the one before."""
        now = time.monotonic()
        if done == 0:
            self._began = None  # a run may follow another
        elif self._began is None:
            self._began = now, done
        if line.endswith("\n"):
            self._bar.console.print(line.strip(), soft_wrap=True)
        elif self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=total, description=line)
        elif self._began and done > self._began[1] and now - self._shown_at > _SECONDS_BETWEEN_LINES:
            self._shown_at = now
            started, done_before = self._began
            left = (now - started) / 60 * (total - done) / (done - done_before)
            self._console.print(f"{done}/{total}  {line}  about {left:.0f} min left", soft_wrap=True)

    def __enter__(self) -> "ProgressView":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
