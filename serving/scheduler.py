"""The work of many callers on few threads: fair by tokens, small work together, large work in parts.

A caller's documents are a *job*, cut into groups of windows that run together. A free thread
takes the next group of the job that has had the fewest tokens so far (fair queueing by virtual time,
Demers, Keshav & Shenker 1989), so an archive cannot starve a headline, headlines without end cannot
starve an archive, and a headline does not wait for a timer: work starts when a thread is free.
What is left of small jobs runs together, and a pass that has the machine to itself takes all of it.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from serving.forward import TokenOutputs
from serving.tokens import TokenStream
from serving.windows import Window

_FULL_ENOUGH = 0.75
"""Jobs share a forward pass only while at least this share of it is not padding.

Where nothing may be padded the share is 1."""
_SHARES = 16
"""However many are in line, a job that has begun gets at least one of so many shares."""


class Group(NamedTuple):
    """Windows that run together, the longest first: (document, window)."""

    windows: Sequence[tuple[int, Window]]

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(len(window) for _, window in self.windows)

    @property
    def longest(self) -> int:
        """Tokens of the longest window."""
        return len(self.windows[0][1])


def micro_batches(cuts: Sequence[Sequence[Window]], budget: int, *, pads: bool = True) -> list[Group]:
    """Windows of similar length in groups of at most `budget` tokens, padding included.

    `cuts` are the windows of each document. The groups follow from them alone. Without `pads`
    a group has windows of one length.
    """
    jobs = [(document, window) for document, windows in enumerate(cuts) for window in windows]
    jobs.sort(key=lambda job: -len(job[1]))
    groups: list[list[tuple[int, Window]]] = []
    for job in jobs:
        longest = len(groups[-1][0][1]) if groups else 0
        alike = pads or len(job[1]) == longest
        if groups and alike and longest * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(job)
        else:
            groups.append([job])
    return [Group(group) for group in groups]


class Job:
    """Documents on their way; iterating gives each as soon as all its windows are done."""

    def __init__(
        self,
        streams: Sequence[TokenStream],
        cuts: Sequence[Sequence[Window]],
        groups: Sequence[Group],
        *,
        shared: bool,
    ) -> None:
        self.streams = streams
        self.cuts = cuts
        self.groups = deque(groups)
        self.shared = shared
        self.served = 0.0
        """Virtual time: the tokens it has had, counted from where others stood when it came."""
        self.begun = False
        """It has had something: at the same time, others go first."""
        self._lock = threading.Lock()
        self._pieces: list[dict[int, TokenOutputs]] = [{} for _ in cuts]
        self._done: SimpleQueue[int | BaseException] = SimpleQueue()

    def __iter__(self) -> Iterator[tuple[int, list[TokenOutputs]]]:
        """Each document's number and what its windows gave, in the order in which they finish.

        Raises what a forward pass of this job raised.
        """
        for _ in self.cuts:
            done = self._done.get()
            if isinstance(done, BaseException):
                raise done
            pieces, self._pieces[done] = self._pieces[done], {}
            yield done, [pieces[window.start] for window in self.cuts[done]]

    def put(self, document: int, window: Window, part: TokenOutputs) -> None:
        """One window is done."""
        with self._lock:
            self._pieces[document][window.start] = part
            complete = len(self._pieces[document]) == len(self.cuts[document])
        if complete:
            self._done.put(document)

    def fail(self, error: BaseException) -> None:
        """No more will come."""
        self._done.put(error)


class Work(NamedTuple):
    """A window of some job."""

    job: Job
    document: int
    window: Window


class Run(Protocol):
    """A forward pass over some windows: what each gave, in order."""

    def __call__(self, work: Sequence[Work], *, wide: bool) -> Sequence[TokenOutputs]:
        """`wide`: nothing else runs or waits, so it may take all threads."""


class Scheduler:
    """Runs groups of windows on `threads` threads. Safe to call from many."""

    def __init__(
        self,
        run: Run,
        threads: int,
        budget: int,
        *,
        pads: bool = True,
    ) -> None:
        self.threads = threads
        self.budget = budget
        """Tokens of a forward pass, padding included."""
        self.pads = pads
        """False: windows of a forward pass have one length."""
        self._run = run
        self._pool: Executor = ThreadPoolExecutor(threads, thread_name_prefix="embargo-run")
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._now = 0.0
        """Virtual time: the tokens that a job which was always in line would have had by now."""
        self._pending = 0
        self._running = 0

    @property
    def pending_tokens(self) -> int:
        """Tokens that wait for a thread."""
        return self._pending

    def submit(self, job: Job) -> None:
        """Put a job in line."""
        tokens = sum(group.tokens for group in job.groups)
        turns = len(job.groups)
        with self._lock:
            job.served = self._now
            self._pending += tokens
            if turns:
                self._jobs.append(job)
        for _ in range(turns):
            self._pool.submit(self._turn)

    def cancel(self, job: Job) -> None:
        """Drop what has not begun; nobody waits for it any more."""
        with self._lock:
            self._pending -= sum(group.tokens for group in job.groups)
            job.groups.clear()
            self._jobs = [other for other in self._jobs if other is not job]

    def abort(self, job: Job, error: BaseException) -> None:
        """Cancel a job and let whoever waits for it know."""
        self.cancel(job)
        job.fail(error)

    def _turn(self) -> None:
        with self._lock:
            batch = self._take()
            self._running += bool(batch)
            wide = self.threads > 1 and self._running == 1 and not self._jobs
        if not batch:
            return  # its group ran together with another's
        try:
            parts = self._run(batch, wide=wide)
        except BaseException as error:  # it belongs to whoever waits
            for job in {work.job for work in batch}:
                self.abort(job, error)
        else:
            for work, part in zip(batch, parts, strict=True):
                work.job.put(work.document, work.window, part)
        finally:
            with self._lock:
                self._running -= 1

    def _take(self) -> list[Work]:
        """The group whose turn it is, and small groups of other jobs that fit in beside it."""
        in_line = sorted(self._jobs, key=lambda job: (job.served, job.begun))
        if not in_line:
            return []
        self._now = max(self._now, in_line[0].served)
        taken = [(in_line[0], self._pop(in_line[0]))]
        # A group that another thread is free to take is better off there.
        others_free = self.threads - self._running - 1
        if in_line[0].shared and sum(len(job.groups) for job in in_line) > others_free:
            taken += self._beside(taken[0][1], in_line)
        # Time goes on while new jobs keep coming, or none of them would ever stand behind an older one
        # that has had something already. In a long line it goes faster, towards first come, first served:
        # else a report of twenty windows would wait twenty times as long as a headline.
        self._now += sum(group.tokens for _, group in taken) / min(len(in_line), _SHARES)
        self._jobs = [job for job in self._jobs if job.groups]
        return [Work(job, document, window) for job, group in taken for document, window in group.windows]

    def _beside(self, first: Group, in_line: Sequence[Job]) -> Iterator[tuple[Job, Group]]:
        """Groups that cost little more when they run together with `first`: the most alike in length."""
        rows, tokens, longest = len(first.windows), first.tokens, first.longest
        full_enough = _FULL_ENOUGH if self.pads else 1.0
        willing = [job for job in in_line if job.shared and job.groups]
        for job in sorted(willing, key=lambda job: abs(job.groups[0].longest - first.longest)):
            while job.groups:
                group = job.groups[0]
                padded = (rows + len(group.windows)) * max(longest, group.longest)
                if padded > self.budget or tokens + group.tokens < full_enough * padded:
                    break
                rows, tokens = rows + len(group.windows), tokens + group.tokens
                longest = max(longest, group.longest)
                yield job, self._pop(job)

    def _pop(self, job: Job) -> Group:
        group = job.groups.popleft()
        job.served += group.tokens
        job.begun = True
        self._pending -= group.tokens
        return group
