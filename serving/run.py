"""Documents through the graph: cut into windows, run side by side, put together again."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from serving.calls import Observer, Silent
from serving.forward import Batch, Forward, TokenOutputs, available_cpus
from serving.model_folder import SpecialTokens
from serving.scheduler import Job, Scheduler, Work, micro_batches
from serving.tokens import TokenStream
from serving.windows import WindowShape

PADDED_TOKENS = 512
"""Tokens of a forward pass. What one layer reads and writes then stays in a core's share of the cache;
larger passes are no faster, take more memory, and keep short texts waiting."""


class Passes:
    """Forward passes over windows. Apart from Runner, so that the scheduler does not refer to its
    owner: a model that was replaced is then released with its last call."""

    def __init__(self, forward: Forward, special: SpecialTokens, observer: Observer) -> None:
        self.forward = forward
        self._special = special
        self._observer = observer

    def __call__(self, work: Sequence[Work], *, wide: bool = False) -> list[TokenOutputs]:
        """One forward pass; of each window the tokens that it owns. `wide`: on all threads."""
        batch = self.batch(work)
        begun = time.perf_counter()
        forward: Forward = getattr(self.forward, "wide", self.forward) if wide else self.forward
        outputs = forward(batch)
        tokens = sum(len(item.window) for item in work)
        self._observer.ran(tokens, batch.input_ids.size, time.perf_counter() - begun)
        own = [
            # 1: the outputs begin with [CLS].
            slice(1 + window.own_start - window.start, 1 + window.own_end - window.start)
            for _, _, window in work
        ]
        return [TokenOutputs(*(part[row, kept] for part in outputs)) for row, kept in enumerate(own)]

    def batch(self, work: Sequence[Work]) -> Batch:
        """The input of some windows, padded if they differ in length."""
        return Batch.of([(item.job.streams[item.document], item.window) for item in work], self._special)


class Runner:
    """Runs the windows of many documents and gives each token its outputs once."""

    def __init__(
        self,
        forward: Forward,
        windows: WindowShape,
        special: SpecialTokens,
        *,
        threads: int | None = None,
        padded_tokens: int = PADDED_TOKENS,
        observer: Observer | None = None,
    ) -> None:
        self.passes = Passes(forward, special, observer or Silent())
        self._windows = windows
        pads = getattr(forward, "pads", False)
        self.scheduler = Scheduler(self.passes, threads or available_cpus(), padded_tokens, pads=pads)

    def submit(self, streams: Sequence[TokenStream], *, alone: bool = False) -> Job:
        """Begin to run documents.

        `alone`: in micro-batches that these documents alone decide, so that the same documents
        give the same bits whatever else runs and on however many threads.
        """
        cuts = [self._windows.cut(len(stream)) for stream in streams]
        budget = self.scheduler.budget
        if not alone:
            # Few windows are dealt out so that every thread has some: the latency of one document.
            tokens = sum(len(window) for windows in cuts for window in windows)
            budget = max(1, min(budget, -(-tokens // self.scheduler.threads)))
        job = Job(streams, cuts, micro_batches(cuts, budget, pads=self.scheduler.pads), shared=not alone)
        self.scheduler.submit(job)
        return job

    def outputs(self, job: Job) -> Iterator[tuple[int, TokenOutputs]]:
        """Each document's number and the outputs of all its tokens, as documents are done."""
        for number, parts in job:
            yield number, TokenOutputs(*map(np.concatenate, zip(*parts, strict=True)))

    def cancel(self, job: Job) -> None:
        """Take what has not begun out of the line."""
        self.scheduler.cancel(job)
