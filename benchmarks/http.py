"""`python -m benchmarks.http`: what HTTP costs, beside the engine in process, in one interleaved run.

Engine and service have the same CPUs, all but the last; whoever calls the service runs on that one
(benchmarks/load.py), so that its cost is in no figure of the service. It is reported all the same:
on a machine with one CPU it cannot be kept out. Turns follow one another, so that whatever else the machine
does falls on all; ratios are taken round by round. Fails if any request was refused, broken off or
answered otherwise than by the engine: what was not read must not count as read.
"""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.asked import BATCH, WORDS, bodies_of, calls_of, compare, documents, faults
from benchmarks.command import run_command
from benchmarks.process import WorkerProcess
from benchmarks.rounds import Ratio
from benchmarks.served import Served, beside, divided_cpus
from benchmarks.work import Slice
from serving.api import model_identity
from serving.errors import EmbargoError
from serving.model_folder import ModelFolder
from serving.settings import RELEASED_MODEL, find_model
from training.inputs import BUILD
from training.progress import progress_bar
from training.schema import schema_of_model

OUTPUT = BUILD / "bench"
CORPUS = Path("datasets/sanctions-news")
_CALLERS = 2
"""Of batches, in process as over HTTP: while one is answered the other is read."""
_CLIENTS = 64
_SETTLE_SECONDS = 0.3
_ALLOWED = {"200"}
_TARGETS = {"batches": 0.95, "singles": 0.85, "latency": 1.3}


class HttpError(EmbargoError):
    """What was timed was not all done."""


@dataclass(slots=True)
class Measured:
    """Seconds of each round, and of each single call."""

    engine_batches: list[float] = field(default_factory=list)
    engine_singles: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    engine_calls: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    load_cpu: dict[str, float] = field(default_factory=lambda: {"batches": 0.0, "singles": 0.0})
    answers: Counter[str] = field(default_factory=Counter)


def http(
    model: Annotated[Path, typer.Option(help="Model folder, or a name in models/.")] = RELEASED_MODEL,
    data: Annotated[Path, typer.Option(help="Corpus whose dev and train are read.")] = CORPUS,
    count: Annotated[int, typer.Option("--documents", min=_CLIENTS, help="Documents of a turn.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 7,
    calls: Annotated[int, typer.Option(min=1, help="Single documents of each round, for latency.")] = 50,
    seed: Annotated[int, typer.Option(help="Which articles are drawn.")] = 13,
    output: Annotated[Path, typer.Option("-o", help="Folder of the report.")] = OUTPUT,
) -> None:
    """Throughput of batches and of many clients, and latency on an idle server, beside the engine's own.

    Exit code 1 if anything was not answered as the engine does.
    """
    folder = ModelFolder.open(find_model(model))
    mixed, long = documents(data, schema_of_model(folder.config), count, calls, seed)
    measured_on, called_from = divided_cpus()
    logs = output / "logs"
    with ExitStack() as running:
        engine = running.enter_context(beside("benchmarks.engine", logs / "engine.log", len(measured_on)))
        load = running.enter_context(beside("benchmarks.load", logs / "load.log", 1))
        served = running.enter_context(Served(folder.path, measured_on, logs / "served.log"))
        engine.ask("open", cpus=measured_on, model=str(folder.path))
        load.ask("open", cpus=called_from, port=served.port)
        hand_over(engine, load, mixed, long)
        with progress_bar("measuring", rounds + 1) as progress:
            measured = measure(engine, load, rounds, len(long.documents), progress)
        same = compared(engine, load)
    found = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model_identity(folder),
        "corpus": str(data),
        "seed": seed,
        "cpus": {"measured": measured_on, "load": called_from},
        "documents": len(mixed.documents),
        "rounds": rounds,
        **report(measured, len(mixed.documents)),
        "answers_beside_the_engine": same,
        "faults": faults(measured.answers, same, _ALLOWED),
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "http.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    Console().print(table(found))
    typer.echo(f"Wrote {output}/http.json.")
    if found["faults"]:
        raise HttpError(f"{'; '.join(found['faults'])}: no figure of this run holds")


def hand_over(engine: WorkerProcess, load: WorkerProcess, mixed: Slice, long: Slice) -> None:
    """The same documents to both."""
    asked = {
        "batches": calls_of(mixed.documents, BATCH),
        "singles": calls_of(mixed.documents, 1),
        "long": calls_of(long.documents, 1),
    }
    for name, calls in asked.items():
        engine.ask("take", slice=name, calls=calls)
        load.ask("take", name=name, bodies=bodies_of(calls))


def measure(
    engine: WorkerProcess, load: WorkerProcess, rounds: int, calls: int, progress: Callable[[int], None]
) -> Measured:
    """Turns of both, call by call for latency. The first round warms and does not count."""
    measured = Measured()
    for number in range(rounds + 1):
        if number == 1:
            measured = Measured()
        time.sleep(_SETTLE_SECONDS)
        measured.engine_batches.append(engine.ask("read", slice="batches", callers=_CALLERS)["seconds"])
        measured.batches.append(_called(load, "batches", _CALLERS, measured))
        measured.engine_singles.append(engine.ask("read", slice="singles", callers=_CLIENTS)["seconds"])
        measured.singles.append(_called(load, "singles", _CLIENTS, measured))
        time.sleep(_SETTLE_SECONDS)
        for call in range(calls):
            measured.engine_calls.append(engine.ask("one", slice="long", number=call)["seconds"])
            measured.calls.append(load.ask("one", name="long", number=call)["seconds"])
        progress(number + 1)
    return measured


def _called(load: WorkerProcess, name: str, clients: int, measured: Measured) -> float:
    time.sleep(_SETTLE_SECONDS)
    turn = load.ask("closed", name=name, clients=clients)
    measured.load_cpu[name] += turn["cpu_seconds"]
    measured.answers.update(turn["answers"])
    return float(turn["seconds"])


def compared(engine: WorkerProcess, load: WorkerProcess) -> dict[str, int]:
    """How many answers were the engine's."""
    same: Counter[str] = Counter()
    for name in ("batches", "singles", "long"):
        expected = engine.ask("bodies", slice=name)["bodies"]
        for number, body, count in load.ask("found", name=name)["found"]:
            same[compare(expected[number], body)] += count
    return dict(same)


def report(measured: Measured, documents: int) -> dict[str, Any]:
    """Rates, ratios and shares, as JSON values."""

    def rate(seconds: Sequence[float]) -> float:
        return documents / statistics.median(seconds)

    ours, engines = _p99(measured.calls), _p99(measured.engine_calls)
    return {
        "targets": _TARGETS,
        "answers": dict(measured.answers),
        "throughput": {
            "engine_batches_documents_per_second": rate(measured.engine_batches),
            "engine_singles_documents_per_second": rate(measured.engine_singles),
            "batches_documents_per_second": rate(measured.batches),
            "singles_documents_per_second": rate(measured.singles),
            "batches_of_engine": asdict(Ratio.of(measured.engine_batches, measured.batches)),
            "singles_of_engine": asdict(Ratio.of(measured.engine_batches, measured.singles)),
            "singles_of_engine_with_as_many_callers": asdict(
                Ratio.of(measured.engine_singles, measured.singles)
            ),
            "load_cpu_share_batches": measured.load_cpu["batches"] / sum(measured.batches),
            "load_cpu_share_singles": measured.load_cpu["singles"] / sum(measured.singles),
        },
        "latency": {
            "words": WORDS,
            "calls": len(measured.calls),
            "engine_p50_milliseconds": 1000 * statistics.median(measured.engine_calls),
            "engine_p99_milliseconds": 1000 * engines,
            "p50_milliseconds": 1000 * statistics.median(measured.calls),
            "p99_milliseconds": 1000 * ours,
            "p50_of_engine": statistics.median(measured.calls) / statistics.median(measured.engine_calls),
            "p99_of_engine": ours / engines,
        },
    }


def _p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


def table(found: dict[str, Any]) -> Table:
    """For the terminal."""
    made = Table("over HTTP", "engine", "service", "ratio", "target", box=None)
    speed, latency = found["throughput"], found["latency"]
    for name, title in (
        ("batches", f"{BATCH} documents a request, {_CALLERS} clients"),
        ("singles", f"a document a request, {_CLIENTS} clients"),
    ):
        ratio = speed[f"{name}_of_engine"]
        made.add_row(
            title,
            f"{speed['engine_batches_documents_per_second']:.1f}/s",
            f"{speed[f'{name}_documents_per_second']:.1f}/s",
            f"{ratio['median']:.3f} ({ratio['lowest']:.3f}–{ratio['highest']:.3f})",
            f"≥ {_TARGETS[name]}",
        )
    made.add_row(
        f"p99 of {WORDS} words, idle",
        f"{latency['engine_p99_milliseconds']:.1f} ms",
        f"{latency['p99_milliseconds']:.1f} ms",
        f"{latency['p99_of_engine']:.3f}",
        f"≤ {_TARGETS['latency']}",
    )
    for status, number in sorted(found["answers"].items()):
        made.add_row(f"answered {status}", "", f"{number:,}", "", "")
    for kind, number in found["answers_beside_the_engine"].items():
        made.add_row(f"as the engine: {kind}", "", f"{number:,}", "", "")
    return made


if __name__ == "__main__":
    run_command(http)
