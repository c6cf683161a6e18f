"""How much of the engine's speed is left of a corpus that `embargo score` reads and writes.

    python -m benchmarks.score --documents 2000 --rounds 3

The same documents are read by the engine in one call and scored by the command, by turns, each in a
process of its own. Prints JSON: seconds of each round, documents a second, the ratio of the two, the
same of processor time (which does not mind what else the machine does), and the most memory that
each held.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from benchmarks.command import run_command
from benchmarks.memory import MIB, Memory
from serving.analyzer import Analyzer
from serving.errors import CorpusError
from serving.forward import available_cpus
from serving.model_folder import ModelFolder
from serving.results import Document
from serving.sentences import sentences
from serving.settings import RELEASED_MODEL, find_model

_CORPUS = Path("datasets/sanctions-news/train.jsonl")
_WARM_UP = 64
"""Documents that the engine reads before the clock starts."""
_COMMAND = """
from benchmarks.memory import Memory
from training.cli import main
try:
    main()
finally:
    print(Memory.of().peak)
"""
"""`embargo`, and at last the most bytes that it held."""


def score(
    documents: Annotated[int, typer.Option(min=_WARM_UP, help="How many are made of --data.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
    model: Annotated[Path, typer.Option(help="Model folder.")] = RELEASED_MODEL,
    data: Annotated[list[Path] | None, typer.Option(help="Lines with a text.")] = None,
    output: Annotated[str, typer.Option(help="Name of what is written, for its format.")] = "o.jsonl.gz",
    engine: Annotated[Path | None, typer.Option(hidden=True, help="Only time the engine on a file.")] = None,
) -> None:
    """Time the engine and `embargo score` on the same documents, by turns."""
    folder = find_model(model)
    if engine:
        sys.stdout.write("{} {} {}\n".format(*_engine_seconds(folder, engine), Memory.of().peak))
        return
    with tempfile.TemporaryDirectory() as made:
        corpus, nothing = Path(made, "corpus.jsonl"), Path(made, "nothing.jsonl")
        nothing.touch()
        made_texts = texts(data or [_CORPUS])
        with corpus.open("wb") as file:
            for number in range(documents):
                file.write(orjson.dumps({"id": number, "text": next(made_texts)}) + b"\n")
        found: dict[str, list[Cost]] = {"engine": [], "score": [], "start": []}
        for turn in range(rounds):
            timed, whole = _run(["-m", "benchmarks.score", "--model", str(folder), "--engine", str(corpus)])
            seconds, cpu_seconds = map(float, timed.split()[:2])
            found["engine"].append(Cost(seconds, cpu_seconds, whole.peak_rss_mib))
            for name, given in (("start", nothing), ("score", corpus)):
                out = Path(made, f"{name}{turn}", output)
                asked = ["score", str(given), "-o", str(out), "--model", str(folder)]
                found[name].append(_run(["-c", _COMMAND, *asked])[1])
    typer.echo(orjson.dumps(report(found, documents), option=orjson.OPT_INDENT_2).decode())


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took."""

    seconds: float
    cpu_seconds: float
    peak_rss_mib: float


def report(found: dict[str, list[Cost]], documents: int) -> dict[str, Any]:
    """`start` is the command on an empty corpus; what is measured of the engine holds no start either."""
    seconds = {name: statistics.median(cost.seconds for cost in costs) for name, costs in found.items()}
    cpu = {name: statistics.median(cost.cpu_seconds for cost in costs) for name, costs in found.items()}
    working = seconds["score"] - seconds["start"]
    return {
        "cpus": available_cpus(),
        "documents": documents,
        "rounds": {name: [asdict(cost) for cost in costs] for name, costs in found.items()},
        "documents_per_second": {"engine": documents / seconds["engine"], "score": documents / working},
        "ratio": seconds["engine"] / working,
        "ratio_with_start": seconds["engine"] / seconds["score"],
        "ratio_of_cpu_seconds": cpu["engine"] / (cpu["score"] - cpu["start"]),
        "peak_rss_mib": {name: max(cost.peak_rss_mib for cost in costs) for name, costs in found.items()},
    }


def _engine_seconds(model: Path, corpus: Path) -> tuple[float, float]:
    """The engine alone, in one call: longest windows together, no file touched. By clock and by CPUs."""
    given = [
        Document(row["text"], id=row["id"]) for row in map(orjson.loads, corpus.read_bytes().splitlines())
    ]
    analyzer = Analyzer.load(ModelFolder.open(model))
    analyzer.analyze(given[:_WARM_UP])
    started, cpu_started = time.perf_counter(), time.process_time()
    analyzer.analyze(given)
    return time.perf_counter() - started, time.process_time() - cpu_started


def texts(files: Sequence[Path]) -> Iterator[str]:
    """Texts of corpora, again and again with their sentences in another order, so that none comes twice."""
    given = [orjson.loads(line)["text"] for file in files for line in file.read_bytes().splitlines()]
    seen: set[int] = set()
    turn = 0
    while True:
        made = len(seen)
        for text in given:
            cuts = sentences(text)
            at = cuts[turn][0] if turn < len(cuts) else 0
            turned = f"{text[at:]}\n{text[:at]}".strip()
            if (digest := hash(turned)) not in seen:
                seen.add(digest)
                yield turned
        turn += 1
        if len(seen) == made:
            raise CorpusError(f"the corpus gives {made} documents and no more; name more files by --data.")


def _run(arguments: Sequence[str]) -> tuple[str, Cost]:
    """Python with these arguments: what it printed, its peak of memory in bytes as the last word, and what
    it took. Raises CorpusError if it fails.
    """
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            printed = process.stdout.read()
        except BaseException:
            process.kill()  # whoever leaves here does not wait for a corpus to be scored
            raise
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CorpusError(f"{' '.join(arguments)} ended with status {process.returncode}")
    seconds = time.perf_counter() - started
    return printed, Cost(seconds, used.ru_utime + used.ru_stime, int(printed.split()[-1]) / MIB)


if __name__ == "__main__":
    run_command(score)
