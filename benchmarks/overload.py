"""`python -m benchmarks.overload`: three times as many requests as can be answered, and what becomes of them.

First the peak is measured, with as many clients as ask again as soon as they have an answer. Then requests
arrive at three times that rate, whatever becomes of those before. Service and load run on CPUs apart, as
in `benchmarks.http`. Fails if the service stops, refuses otherwise than by 429 with Retry-After, breaks
off, or answers otherwise than the engine.
"""

import threading
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.asked import bodies_of, calls_of, compare, documents, faults
from benchmarks.command import run_command
from benchmarks.http import CORPUS, OUTPUT
from benchmarks.memory import MIB
from benchmarks.process import WorkerProcess
from benchmarks.served import Served, beside, divided_cpus
from benchmarks.work import Slice
from serving.api import model_identity
from serving.errors import EmbargoError
from serving.model_folder import ModelFolder
from serving.settings import RELEASED_MODEL, find_model
from training.schema import schema_of_model

_CLIENTS = 64
_WATCH_SECONDS = 1.0
_GOODPUT = 0.9
_ALLOWED = {"200", "429"}


class OverloadError(EmbargoError):
    """The service did not keep what it promises under load."""


def overload(
    model: Annotated[Path, typer.Option(help="Model folder, or a name in models/.")] = RELEASED_MODEL,
    data: Annotated[Path, typer.Option(help="Corpus whose dev and train are read.")] = CORPUS,
    seconds: Annotated[float, typer.Option(min=1, help="How long requests arrive.")] = 300,
    peak_seconds: Annotated[float, typer.Option(min=1, help="How long the peak is measured.")] = 30,
    factor: Annotated[float, typer.Option(min=1, help="Times the peak.")] = 3,
    count: Annotated[int, typer.Option("--documents", min=1, help="Different documents.")] = 256,
    seed: Annotated[int, typer.Option(help="Which articles are drawn.")] = 13,
    output: Annotated[Path, typer.Option("-o", help="Folder of the report.")] = OUTPUT,
) -> None:
    """Count answers, compare each with the engine's, watch memory. Exit code 1 if a promise was broken."""
    folder = ModelFolder.open(find_model(model))
    mixed, _ = documents(data, schema_of_model(folder.config), count, 1, seed)
    measured_on, called_from = divided_cpus()
    logs = output / "logs"
    with beside("benchmarks.engine", logs / "engine.log", len(measured_on)) as engine:
        engine.ask("open", cpus=measured_on, model=str(folder.path))
        engine.ask("take", slice="singles", calls=calls_of(mixed.documents, 1))
        expected = engine.ask("bodies", slice="singles")["bodies"]
    with ExitStack() as running:
        load = running.enter_context(beside("benchmarks.load", logs / "load.log", 1))
        served = running.enter_context(Served(folder.path, measured_on, logs / "served.log"))
        load.ask("open", cpus=called_from, port=served.port)
        found = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": model_identity(folder),
            "corpus": str(data),
            "seed": seed,
            "cpus": {"measured": measured_on, "load": called_from},
            "documents": len(mixed.documents),
            **_overloaded(served, load, mixed, peak_seconds, factor, seconds),
        }
        found["answers_beside_the_engine"] = _compared(load, expected)
    found["broken_promises"] = broken_promises(found)
    output.mkdir(parents=True, exist_ok=True)
    (output / "overload.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    Console().print(table(found))
    typer.echo(f"Wrote {output}/overload.json.")
    if found["broken_promises"]:
        raise OverloadError("; ".join(found["broken_promises"]))


def _overloaded(
    served: Served, load: WorkerProcess, mixed: Slice, peak_seconds: float, factor: float, seconds: float
) -> dict[str, Any]:
    load.ask("take", name="singles", bodies=bodies_of(calls_of(mixed.documents, 1)))
    load.ask("lasting", name="singles", clients=_CLIENTS, seconds=peak_seconds / 4)  # warms
    peak = load.ask("lasting", name="singles", clients=_CLIENTS, seconds=peak_seconds)
    rate = peak["answers"].get("200", 0) / peak["seconds"]
    if not rate:
        raise OverloadError(
            f"expected a peak to measure by, got no answer 200 in {peak['seconds']:.1f} s but "
            f"{peak['answers']}; the log of the service says why."
        )
    # What the first of many callers at once take is there for the rest of the run: it comes before the start.
    load.ask("arriving", name="singles", rate=factor * rate, seconds=peak_seconds / 4)
    with MemoryWatch(served) as memory:
        arrived = load.ask("arriving", name="singles", rate=factor * rate, seconds=seconds)
    goodput = arrived["in_time"] / arrived["arriving_seconds"]
    return {
        "seconds": arrived["arriving_seconds"],
        "peak_per_second": rate,
        "arriving_per_second": factor * rate,
        "answers": arrived["answers"],
        "goodput_per_second": goodput,
        "goodput_of_peak": goodput / rate,
        "load_cpu_share": arrived["cpu_seconds"] / arrived["seconds"],
        "rss_bytes": memory.report(),
        "alive": served.is_alive,
    }


class MemoryWatch:
    """Looks at the memory of the service once a second."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._seen = [served.rss_bytes()]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._over.set()
        self._thread.join()

    def report(self) -> dict[str, int]:
        """At the start, at the end, the most."""
        return {"start": self._seen[0], "end": self._seen[-1], "most": max(self._seen)}

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_SECONDS) and self._served.is_alive:
            self._seen.append(self._served.rss_bytes())


def _compared(load: WorkerProcess, expected: list[str]) -> dict[str, int]:
    same: Counter[str] = Counter()
    for number, body, count in load.ask("found", name="singles")["found"]:
        same[compare(expected[number], body)] += count
    return dict(same)


def broken_promises(found: dict[str, Any]) -> list[str]:
    """What a user could complain of; the goodput is a figure, not a promise."""
    broken = faults(found["answers"], found["answers_beside_the_engine"], _ALLOWED)
    if not found["alive"]:
        broken.append("the service has stopped")
    return broken


def table(found: dict[str, Any]) -> Table:
    """For the terminal."""
    made = Table("overload", "", box=None, show_header=False)
    made.add_row("peak", f"{found['peak_per_second']:.1f} documents/s")
    made.add_row("arriving", f"{found['arriving_per_second']:.1f} documents/s, {found['seconds']:.1f} s")
    for status, count in sorted(found["answers"].items()):
        made.add_row(f"answered {status}", f"{count:,}")
    for kind, count in found["answers_beside_the_engine"].items():
        made.add_row(f"as the engine: {kind}", f"{count:,}")
    made.add_row("goodput", f"{found['goodput_of_peak']:.3f} of the peak (target ≥ {_GOODPUT})")
    memory = found["rss_bytes"]
    made.add_row("memory", " → ".join(f"{memory[at] / MIB:.0f}" for at in ("start", "most", "end")) + " MiB")
    return made


if __name__ == "__main__":
    run_command(overload)
