"""`python -m benchmarks.fuzz`: random and mutated requests to a service with a tiny model of random weights.

Each request has a connection of its own and a time in which something must come. Fails if an answer is
5xx but 503, if none comes, if an error is no problem+json, if an answer of 200 is no JSON, or if anything is
left in the line at the end. `--only NUMBER` sends one request of the seed again.
"""

import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.exchange import Answer, BrokenOff, Link
from benchmarks.fuzzed import NDJSON, Fuzzed, fuzzed
from benchmarks.http import OUTPUT
from benchmarks.served import Served, divided_cpus
from serving.errors import EmbargoError
from serving.settings import find_model
from training.progress import progress_bar

_AT_ONCE = 32
_HANG_SECONDS = 30.0
_HEAD_SECONDS, _BODY_SECONDS = "5", "1"
"""The service's patience for what does not come. On a busy machine a second may pass between our connection
and our first byte, but not between our head and our body, which are sent at once."""
_BODY_BYTES = "1000000"
_KEPT = 20
"""Faults that are listed, of each kind."""


class FuzzError(EmbargoError):
    """The service answered a request as it never should."""


@dataclass(slots=True)
class Outcome:
    """What became of the requests."""

    answers: dict[str, Counter[str]] = field(default_factory=dict)
    """By kind of request, then by status."""
    faults: dict[str, list[int]] = field(default_factory=dict)
    """By what was wrong, numbers of requests."""
    slowest_seconds: float = 0.0

    def add(self, request: Fuzzed, answered: str) -> None:
        """Count an answer."""
        self.answers.setdefault(request.kind, Counter())[answered] += 1

    def fault(self, what: str, number: int) -> None:
        """Note a fault."""
        self.faults.setdefault(what, []).append(number)


def fuzz(
    requests: Annotated[int, typer.Option(min=1, help="How many are sent.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Which are sent.")] = 13,
    model: Annotated[Path | None, typer.Option(help="Model folder; default: one of random weights.")] = None,
    only: Annotated[int | None, typer.Option(help="Send this one alone.")] = None,
    output: Annotated[Path, typer.Option("-o", help="Folder of the report.")] = OUTPUT,
) -> None:
    """Count answers by kind of request and by status. Exit code 1 at any fault."""
    numbers = range(requests) if only is None else range(only, only + 1)
    measured_on, _ = divided_cpus()
    with tempfile.TemporaryDirectory() as scratch:
        folder = find_model(model) if model else _tiny_model(Path(scratch))
        settings = {
            "head_seconds": _HEAD_SECONDS,
            "body_seconds": _BODY_SECONDS,
            "max_body_bytes": _BODY_BYTES,
            "log_level": "error",
        }
        with Served(folder, measured_on, output / "logs" / "fuzzed.log", **settings) as served:
            began = time.perf_counter()
            with progress_bar("requests", len(numbers)) as progress:
                outcome = uvloop.run(send(served.port, seed, numbers, progress))
            seconds = time.perf_counter() - began
            if wrong := wrong_at_the_end(served):
                outcome.fault(wrong, numbers[-1])
    found = report(outcome, seed, len(numbers), seconds)
    output.mkdir(parents=True, exist_ok=True)
    (output / "fuzz.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    Console().print(table(found))
    typer.echo(f"Wrote {output}/fuzz.json.")
    if outcome.faults:
        listed = "; ".join(f"{what}: {numbers[:_KEPT]}" for what, numbers in outcome.faults.items())
        raise FuzzError(f"{listed}. `--seed {seed} --only NUMBER` sends one again.")


def _tiny_model(scratch: Path) -> Path:
    from benchmarks.tiny_model import tiny_model_in  # needs the training extra

    return tiny_model_in(scratch)


def wrong_at_the_end(served: Served) -> str | None:
    """What should not be so after the last answer."""
    if not served.is_alive:
        return "the service has stopped"
    try:
        left = _left(served)
    except OSError:
        return "the service does not answer"
    return f"{left:g} tokens are left in the line" if left else None


def _left(served: Served) -> float:
    """What is still in the line a while after the last answer."""
    until = time.monotonic() + _HANG_SECONDS
    while (left := served.metric("embargo_queue_tokens")) and time.monotonic() < until:
        time.sleep(0.1)
    return left


async def send(port: int, seed: int, numbers: range, progress: Any) -> Outcome:
    """Send all, some at a time."""
    outcome, over, remaining = Outcome(), 0, iter(numbers)

    async def sender() -> None:
        nonlocal over
        for number in remaining:  # shared: each takes the next
            await _send(port, number, fuzzed(seed, number), outcome)
            over += 1
            progress(over)

    await asyncio.gather(*(sender() for _ in range(_AT_ONCE)))
    return outcome


async def _send(port: int, number: int, request: Fuzzed, outcome: Outcome) -> None:
    began = time.perf_counter()
    try:
        link = await Link.to(port)
    except OSError:
        outcome.fault("no connection", number)
        return
    try:
        asking = link.ask(request.raw, has_body=request.has_body)
        if request.leaves:
            await asyncio.wait_for(asking, 0.001)
        else:
            answer = await asyncio.wait_for(asking, _HANG_SECONDS)
            outcome.add(request, str(answer.status))
            if wrong := wrong_with(answer, request):
                outcome.fault(wrong, number)
    except TimeoutError:
        outcome.add(request, "left" if request.leaves else "none")
        if not request.leaves:
            outcome.fault("no answer", number)
    except BrokenOff:
        outcome.add(request, "closed")
        if request.whole:
            outcome.fault("closed without an answer", number)
    finally:
        link.close()
    if not request.leaves:
        outcome.slowest_seconds = max(outcome.slowest_seconds, time.perf_counter() - began)


def wrong_with(answer: Answer, request: Fuzzed) -> str | None:
    """What should not be so in an answer, whatever was asked."""
    if answer.status >= 500 and answer.status != 503:
        return f"answered {answer.status}"
    if not request.whole or not request.has_body:
        return None
    given = answer.headers.get("content-type", "")
    if answer.status >= 400 and given != "application/problem+json":
        return f"{answer.status} as {given or 'nothing'}"
    lines = answer.body.splitlines() if given == NDJSON else [answer.body]
    if "json" in given and answer.headers.get("content-encoding") is None:
        try:
            for line in lines:
                orjson.loads(line)
        except orjson.JSONDecodeError:
            return "an answer that is no JSON"
    return None


def report(outcome: Outcome, seed: int, requests: int, seconds: float) -> dict[str, Any]:
    """The outcome as JSON values."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "requests": requests,
        "seconds": seconds,
        "slowest_seconds": outcome.slowest_seconds,
        "answers": {kind: dict(sorted(counts.items())) for kind, counts in sorted(outcome.answers.items())},
        "faults": outcome.faults,
    }


def table(found: dict[str, Any]) -> Table:
    """For the terminal."""
    statuses = sorted({status for counts in found["answers"].values() for status in counts})
    made = Table("requests", *statuses, box=None, title="answers by status")
    for kind, counts in found["answers"].items():
        made.add_row(kind, *(f"{counts.get(status, 0):,}" for status in statuses))
    return made


if __name__ == "__main__":
    run_command(fuzz)
