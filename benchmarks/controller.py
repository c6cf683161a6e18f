"""One run from beginning to end: start everybody, hear their answers, let them read by turns."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks import roofline
from benchmarks.accuracy import Answers
from benchmarks.environments import interpreter
from benchmarks.line_up import Entry
from benchmarks.process import WorkerProcess
from benchmarks.protocol import SystemFailed
from benchmarks.rounds import WARM_UP, Contestant, Measured, Tuning, measure, tune, turns
from benchmarks.work import Kind, Slice
from training.progress import progress_bar

_WARM_UP_DOCUMENTS = 4
DEV = "dev"
"""The slice that accuracy is measured on."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for every system of a run."""

    threads: int
    slices: Sequence[Slice]
    dev: Slice
    graph: Path
    calibration: Path
    scratch: Path
    """What is made of the checkpoint."""
    venvs: Path
    logs: Path

    def example(self, kind: Kind) -> Slice:
        """The smallest slice of a kind."""
        return min((s for s in self.slices if s.kind == kind), key=lambda s: s.words)


@dataclass(slots=True)
class SystemResult:
    """What is known of one system after the run."""

    entry: Entry
    threads: int
    failure: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning | None = None
    load_seconds: float | None = None
    answers: Answers = ()
    measured: Measured | None = None


@dataclass(slots=True)
class RunResult:
    """Everything that a run gave."""

    systems: list[SystemResult]
    gemm: list[dict[int, dict[str, float]]]
    """GFLOP/s of each round, by threads, then by type of number."""


Start = Callable[[Entry, int], WorkerProcess]


def run(entries: Sequence[Entry], setting: Setting, say: Callable[[str], None]) -> RunResult:
    """Measure all. A system that fails is reported with the reason, and the others go on."""

    def start(entry: Entry, threads: int) -> WorkerProcess:
        python = interpreter(entry.requirements, setting.venvs, say)
        settings = orjson.dumps(dict(entry.settings)).decode()
        command = [str(python), "-m", "benchmarks.worker", entry.place, settings]
        return WorkerProcess(command, setting.logs / f"{entry.name.replace(' ', '-')}.log", threads)

    gemm: list[dict[int, dict[str, float]]] = []
    budgets = sorted({1, setting.threads})
    results = [SystemResult(entry, 1 if entry.one_thread else setting.threads) for entry in entries]
    with ExitStack() as running:
        contestants: dict[str, tuple[Contestant, Sequence[Slice]]] = {}
        for result in results:
            say(f"starting {result.entry.name}")
            try:
                contestant = _prepare(result, setting, start, running)
            except SystemFailed as error:
                result.failure = str(error)
                _check_first(results)
                say(f"{result.entry.name} is left out: {error}")
                continue
            contestants[result.entry.name] = contestant, _slices_of(result.entry, setting)

        def after_round(number: int) -> None:
            gemm.append({threads: roofline.rates(threads) for threads in budgets})
            say(f"round {number + 1} is over")

        with progress_bar("measuring", turns(contestants)) as progress:
            found, dropped = measure(contestants, after_round, progress)
    for result in results:
        result.measured = found.get(result.entry.name)
        result.failure = result.failure or dropped.get(result.entry.name)
    _check_first(results)
    return RunResult(results, gemm)


def _check_first(results: Sequence[SystemResult]) -> None:
    if results[0].failure:
        raise SystemFailed(f"{results[0].entry.name}, which all are compared with: {results[0].failure}")


def _prepare(result: SystemResult, setting: Setting, start: Start, running: ExitStack) -> Contestant:
    """Find the best setup in one process, then start a fresh one, whose memory is that setup's."""
    entry, slices = result.entry, _slices_of(result.entry, setting)
    if entry.before:
        entry.before()
    with start(entry, result.threads) as trial:
        opened = _open(trial, result, setting)
        result.versions = opened["versions"]
        examples = {kind: setting.example(kind) for kind in _TUNED_ON}
        for example in examples.values():
            trial.take(example)
        result.tuning = tune(trial, opened["choices"], examples)
    process = running.enter_context(start(entry, result.threads))
    _open(process, result, setting)
    warm_up = setting.example("mixed").documents[:_WARM_UP_DOCUMENTS]
    for slice in [*slices, Slice(WARM_UP, "mixed", [warm_up], 0), setting.dev]:
        process.take(slice)
    contestant = Contestant(process, result.tuning)
    result.load_seconds = contestant.load_seconds
    if not entry.one_thread:
        result.answers = process.answers(DEV)
    return contestant


_TUNED_ON: tuple[Kind, ...] = ("short", "mixed")


def _open(process: WorkerProcess, result: SystemResult, setting: Setting) -> dict[str, Any]:
    given = {
        "model": str(result.entry.model),
        "graph": str(setting.graph),
        "calibration": str(setting.calibration),
        "scratch": str(setting.scratch),
        "threads": result.threads,
    }
    return process.ask("open", given=given)


def _slices_of(entry: Entry, setting: Setting) -> Sequence[Slice]:
    """All; for a system that is there for scaling, one."""
    return [setting.example("mixed")] if entry.one_thread else setting.slices
