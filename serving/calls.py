"""What a call of the engine lets others do: watch it, and give it up."""

import threading
from typing import Protocol

from serving.errors import AbandonedError
from serving.scheduler import Job, Scheduler


class Observer(Protocol):
    """Is told how long the stages of the engine took, in seconds."""

    def tokenised(self, documents: int, seconds: float) -> None:
        """So many documents were cut into tokens."""

    def ran(self, tokens: int, padded: int, seconds: float) -> None:
        """A forward pass over so many tokens, with padding `padded`."""


class Silent:
    """An observer that keeps nothing."""

    def tokenised(self, documents: int, seconds: float) -> None:
        """Nothing."""

    def ran(self, tokens: int, padded: int, seconds: float) -> None:
        """Nothing."""


class Cancellation:
    """Gives up a call from another thread; the call then raises AbandonedError."""

    waits = False
    """Whether the call has no thread yet and waits for room: then its task may be cancelled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: tuple[Scheduler, Job] | None = None
        self._cancelled = False

    def watch(self, scheduler: Scheduler, job: Job) -> None:
        """This job is to be given up when the call is."""
        with self._lock:
            self._job = scheduler, job
            cancelled = self._cancelled
        if cancelled:
            scheduler.abort(job, AbandonedError())

    def check(self) -> None:
        """Raises AbandonedError if the call was given up."""
        if self._cancelled:
            raise AbandonedError

    def cancel(self) -> None:
        """What has not begun to run never will."""
        with self._lock:
            self._cancelled = True
            job = self._job
        if job:
            job[0].abort(job[1], AbandonedError())
