"""Many callers share few threads: fairly, together where it pays, each with its own failures."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from serving.forward import TokenOutputs
from serving.scheduler import Job, Scheduler, Work, micro_batches
from serving.tokens import TokenStream
from serving.windows import WindowShape

SHAPE = WindowShape(12, 6)


def stream(tokens: int) -> TokenStream:
    numbers = np.arange(tokens)
    return TokenStream(
        numbers, numbers, numbers, numbers + 1, np.zeros(tokens, np.int8), np.zeros(tokens, bool)
    )


def job(*lengths: int, budget: int = 30, shared: bool = True) -> Job:
    cuts = [SHAPE.cut(length) for length in lengths]
    return Job([stream(n) for n in lengths], cuts, micro_batches(cuts, budget), shared=shared)


def outputs(work: Work) -> TokenOutputs:
    numbers = np.arange(work.window.own_start, work.window.own_end, dtype=np.float32)[:, None]
    return TokenOutputs(numbers, numbers, numbers)


class Gate:
    """A forward pass that waits until it is let through, and remembers what ran together."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Work]] = []
        self.wide: list[bool] = []
        self.open = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def __call__(self, work: Sequence[Work], *, wide: bool) -> list[TokenOutputs]:
        self.batches.append(work)
        self.wide.append(wide)
        self.begun.release()
        assert self.open.acquire(timeout=10)
        return [outputs(item) for item in work]

    def let(self, passes: int) -> None:
        self.open.release(passes)


def finish(job: Job) -> dict[int, list[float]]:
    return {number: np.concatenate([p.tag_logits for p in parts])[:, 0].tolist() for number, parts in job}


def test_every_document_comes_back_whole_from_many_threads() -> None:
    scheduler = Scheduler(lambda work, *, wide: [outputs(item) for item in work], threads=4, budget=30)
    random = np.random.default_rng(0)

    def call(seed: int) -> None:
        lengths = [int(n) for n in random.integers(1, 90, 20)]
        mine = job(*lengths, shared=bool(seed % 2))
        scheduler.submit(mine)
        assert finish(mine) == {n: [float(i) for i in range(length)] for n, length in enumerate(lengths)}

    with ThreadPoolExecutor(16) as callers:
        list(callers.map(call, range(64)))
    assert scheduler.pending_tokens == 0


def test_a_pass_takes_all_threads_only_when_it_is_alone() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=2, budget=30)
    short = job(10)
    scheduler.submit(short)
    assert gate.begun.acquire(timeout=10)
    late = job(10)  # comes while the wide one runs: it gets the other thread
    scheduler.submit(late)
    assert gate.begun.acquire(timeout=10)
    gate.let(2)
    finish(short), finish(late)
    assert gate.wide == [True, False]

    several = job(30, 30, 30)
    assert len(several.groups) > 2
    gate.let(len(several.groups))
    scheduler.submit(several)
    finish(several)
    assert gate.wide[2] is False  # others were in line


def test_one_thread_is_never_wide() -> None:
    gate = Gate()
    gate.let(1)
    scheduler = Scheduler(gate, threads=1, budget=30)
    mine = job(10)
    scheduler.submit(mine)
    finish(mine)
    assert gate.wide == [False]


def test_a_short_job_does_not_wait_for_a_long_one() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=30)
    long, short = job(*[10] * 60), job(5)
    scheduler.submit(long)
    assert gate.begun.acquire(timeout=10)
    scheduler.submit(short)
    gate.let(2)
    assert finish(short) == {0: [0.0, 1.0, 2.0, 3.0, 4.0]}
    assert [item.job is short for item in gate.batches[1]].count(True) == 1
    gate.let(60)
    assert len(finish(long)) == 60


def test_jobs_share_tokens_evenly() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=30)
    jobs = [job(*[10] * 30, shared=False) for _ in range(3)]
    scheduler.submit(job(1))
    assert gate.begun.acquire(timeout=10)
    for each in jobs:
        scheduler.submit(each)
    gate.let(100)
    for each in jobs:
        finish(each)
    order = [jobs.index(batch[0].job) for batch in gate.batches[1:]]
    assert all({*order[at : at + 3]} == {0, 1, 2} for at in range(0, len(order), 3))


def test_small_jobs_run_together_when_no_thread_is_free() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=30)
    scheduler.submit(job(1))
    assert gate.begun.acquire(timeout=10)
    small = [job(8), job(2), job(9), job(10), job(10)]
    for each in small:
        scheduler.submit(each)
    gate.let(10)
    for each in small:
        finish(each)
    # 8, 9 and 10 fit into 30, 2 is too unlike them; then 2 would make a third of the pass padding.
    assert [[small.index(item.job) for item in batch] for batch in gate.batches[1:]] == [[0, 2, 3], [1], [4]]


def test_a_lone_job_is_dealt_to_all_threads() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=2, budget=30)
    lone = job(10, 10, budget=10)
    scheduler.submit(lone)
    assert gate.begun.acquire(timeout=10)
    assert gate.begun.acquire(timeout=10)
    assert [len(batch) for batch in gate.batches] == [1, 1]
    gate.let(2)
    finish(lone)


def test_a_job_alone_runs_as_it_was_cut() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=30)
    scheduler.submit(job(1))
    assert gate.begun.acquire(timeout=10)
    alone, other = job(9, 9, 9, 9, shared=False), job(3)
    scheduler.submit(alone)
    scheduler.submit(other)
    gate.let(10)
    finish(alone)
    finish(other)
    assert [{item.job for item in batch} for batch in gate.batches[1:]] == [{alone}, {other}, {alone}]


def test_a_failure_is_the_jobs_own() -> None:
    def run(work: Sequence[Work], *, wide: bool) -> list[TokenOutputs]:
        if any(len(item.window) == 7 for item in work):
            raise MemoryError("no room")
        return [outputs(item) for item in work]

    scheduler = Scheduler(run, threads=1, budget=30)
    bad, good = job(7, *[10] * 9), job(*[9] * 9)
    scheduler.submit(bad)
    scheduler.submit(good)
    with pytest.raises(MemoryError, match="no room"):
        finish(bad)
    assert len(finish(good)) == 9
    assert scheduler.pending_tokens == 0


def test_a_cancelled_job_leaves_the_line() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=30)
    gone, other = job(*[10] * 60), job(10)
    scheduler.submit(gone)
    assert gate.begun.acquire(timeout=10)
    scheduler.cancel(gone)
    assert scheduler.pending_tokens == 0
    scheduler.submit(other)
    gate.let(2)
    finish(other)
    assert len(gate.batches) == 2


def test_groups_hold_similar_lengths_within_the_budget() -> None:
    random = np.random.default_rng(1)
    cuts = [SHAPE.cut(int(n)) for n in random.integers(1, 60, 50)]
    groups = micro_batches(cuts, 30)
    flat = [item for group in groups for item in group.windows]
    every = [(document, window) for document, windows in enumerate(cuts) for window in windows]
    assert len(flat) == len(every)
    assert set(flat) == set(every)
    assert all(group.longest * len(group.windows) <= 30 for group in groups)
    lengths = [len(window) for _, window in flat]
    assert all(a >= b for a, b in pairwise(lengths))


def test_without_padding_a_group_has_windows_of_one_length() -> None:
    random = np.random.default_rng(2)
    cuts = [SHAPE.cut(int(n)) for n in random.integers(1, 60, 50)]
    groups = micro_batches(cuts, 30, pads=False)
    assert sum(len(group.windows) for group in groups) == sum(map(len, cuts))
    assert all(len({len(window) for _, window in group.windows}) == 1 for group in groups)
    assert all(group.tokens <= 30 for group in groups)
    assert any(len(group.windows) > 1 for group in groups)


def test_without_padding_only_jobs_of_the_same_length_share_a_pass() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=30, pads=False)
    jobs = [job(length) for length in (9, 5, 6, 5, 6)]
    for each in jobs:
        scheduler.submit(each)
        if each is jobs[0]:
            gate.begun.acquire()  # the others wait for the thread
    gate.let(3)
    for each in jobs:
        finish(each)
    assert [[len(work.window) for work in batch] for batch in gate.batches] == [[9], [5, 5], [6, 6]]


def test_short_jobs_without_end_do_not_starve_a_long_one() -> None:
    gate = Gate()
    scheduler = Scheduler(gate, threads=1, budget=12, pads=False)
    long = job(40, budget=12)
    passes = len(long.groups)
    scheduler.submit(long)
    for _ in range(3):
        scheduler.submit(job(4, budget=4, shared=False))
    gate.begun.acquire()
    for _ in range(200):  # three short ones wait at any time, for each that is done another comes
        scheduler.submit(job(4, budget=4, shared=False))
        gate.let(1)
        gate.begun.acquire()
    mine = [number for number, batch in enumerate(gate.batches) if batch[0].job is long]
    assert len(mine) == passes
    # A window of the long one costs as much as three short jobs, and four are in line.
    assert mine[-1] <= 4 * 3 * passes + 8
    gate.let(300)
    scheduler.cancel(long)
