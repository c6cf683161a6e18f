"""A corpus run: inputs are found, parts are scored and kept, and put together in the end.

`embargo score` reads downward here. Reading and writing take place while the engine works on the next
part; nothing is held in memory but a few parts.
"""

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.errors import ScoreError
from serving.model_folder import ModelFolder
from serving.results import Analysis
from serving.score import outputs
from serving.score.finish import REJECTS, Targets, finish, finished_before, locked
from serving.score.job import STDOUT, ScoreJob
from serving.score.manifest import Ledger
from serving.score.outputs import OutputFormat, RowStyle
from serving.score.parts import Part, Start, read_parts
from serving.score.scoring import Counts, Scored
from serving.score.sources import STDIN, Source, SourceIdentity, find_sources

Engine = Callable[[Iterator[Part]], Generator[Scored]]
"""Scores parts. Results of a run that is kept on disk may come in any order, those for stdout may not."""


class View(Protocol):
    """Who is told how far a run is."""

    def begin(self, total_bytes: int | None, done_bytes: int, done: Counts) -> None: ...  # noqa: D102
    def piece(self, analyses: Sequence[Analysis]) -> None: ...  # noqa: D102
    def part(self, counts: Counts, done_bytes: int) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    counts: Counts
    before: Counts
    """What earlier sessions of the run had done."""
    seconds: float
    rejects: Path


def run_score(job: ScoreJob, model: ModelFolder, engine: Engine, view: View) -> Outcome:
    """Score a corpus. Raises ScoreError if the run cannot begin, go on or be finished."""
    to_stdout = job.output == STDOUT
    try:
        return (_to_stdout if to_stdout else _to_disk)(job, model, engine, view)
    except BrokenPipeError as error:
        # What is still in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ScoreError("whoever read the output went away; nothing was kept.") from error
    except OSError as error:
        kept = "" if to_stdout else " All parts that are done are kept; then run the same command again."
        raise ScoreError(
            f"{error.filename or job.output} cannot be written or read ({error.strerror or error}); make "
            f"room, or whatever else it needs.{kept}"
        ) from error


def _to_disk(job: ScoreJob, model: ModelFolder, engine: Engine, view: View) -> Outcome:
    targets = job.targets()
    sources = find_sources(job.inputs, outputs=targets.own(), input_format=job.input_format)
    stamps = _stamps(sources)
    identity = job.identity(model, sources, targets)
    if not job.restart and (finished := finished_before(targets, identity)):
        return Outcome(finished.counts, finished.counts, 0.0, targets.rejects)
    for made in targets.made():
        made.parent.mkdir(parents=True, exist_ok=True)
    with locked(targets.work):
        if job.restart:
            targets.clear()
        ledger = Ledger(targets.work)
        ledger.open(identity)
        targets.manifest.unlink(missing_ok=True)  # of a finished run whose output was taken away
        before, start, started = ledger.counts(), ledger.start(), time.monotonic()
        gauge = _Gauge(identity.inputs)
        view.begin(gauge.total, gauge.before(start.place.input), before)
        parts = read_parts(sources, job.fields, job.cut, job.max_row_bytes, start)
        with closing(engine(part for part in parts if part.number not in ledger.receipts)) as results:
            for scored in results:
                files = _files(scored, targets, _style(job, model, targets.form))
                ledger.put(scored.part.number, scored.part.end, scored.counts(), files)
                view.part(scored.counts(), gauge.bytes(scored.part))
        if changed := [name for name, stamp in _stamps(sources).items() if stamp != stamps[name]]:
            raise ScoreError(f"{changed[0]} was changed while it was read; --restart to begin anew.")
        finished = finish(ledger, targets, identity)
        return Outcome(finished.counts, before, time.monotonic() - started, targets.rejects)


def _to_stdout(job: ScoreJob, model: ModelFolder, engine: Engine, view: View) -> Outcome:
    form = outputs.checked_format(job.form or "jsonl")
    if job.rejects is None:
        raise ScoreError("with - as output, name a file for what cannot be scored: --rejects FILE.")
    if job.spans or job.restart or form == "parquet":
        raise ScoreError("--spans, --restart and Parquet need an output file; - is written once, in order.")
    sources = find_sources(job.inputs, outputs=[job.rejects], input_format=job.input_format)
    gauge = _Gauge([source.identity() for source in sources])
    counts, started = Counts(), time.monotonic()
    view.begin(gauge.total, 0, counts)
    parts = read_parts(sources, job.fields, job.cut, job.max_row_bytes, Start())
    with outputs.written_whole(job.rejects) as rejects, closing(engine(parts)) as results:
        for scored in results:
            rows = outputs.row_lines(scored, _style(job, model, form))
            sys.stdout.buffer.write(outputs.encode(rows, "rows", form))
            sys.stdout.buffer.flush()
            rejects.write(outputs.reject_lines(scored))
            counts += scored.counts()
            view.part(scored.counts(), gauge.bytes(scored.part))
    return Outcome(counts, Counts(), time.monotonic() - started, job.rejects)


def _files(scored: Scored, targets: Targets, style: RowStyle) -> dict[str, bytes]:
    """The files of a part by suffix."""
    files: dict[str, bytes] = {
        targets.form: outputs.encode(outputs.row_lines(scored, style), "rows", targets.form),
        REJECTS: outputs.reject_lines(scored),
    }
    if form := targets.spans_form:
        spans = outputs.span_lines(scored, text_ids=form == "parquet")
        files[f"spans.{form}"] = outputs.encode(spans, "spans", form)
    return files


def _style(job: ScoreJob, model: ModelFolder, form: OutputFormat) -> RowStyle:
    return RowStyle(
        model.sha256,
        job.with_text,
        job.with_date,
        text_ids=form == "parquet",
        as_ftm=outputs.is_ftm(form),
        offset_unit=job.options.offset_unit,
    )


def _stamps(sources: Sequence[Source]) -> dict[str, tuple[int, int] | None]:
    """Size and time of each file, None where there is none."""
    found = {source.name: source.path.stat() if os.path.isfile(source.path) else None for source in sources}
    return {name: (stat.st_size, stat.st_mtime_ns) if stat else None for name, stat in found.items()}


class _Gauge:
    """How many bytes of the inputs have been gone through."""

    def __init__(self, inputs: Sequence[SourceIdentity]) -> None:
        self._sizes = [given.bytes or 0 for given in inputs]
        is_known = all(given.name != STDIN for given in inputs)
        self.total = sum(self._sizes) if is_known else None

    def before(self, at: int) -> int:
        """Bytes of the inputs before this one."""
        return sum(self._sizes[:at])

    def bytes(self, part: Part) -> int:
        """Up to the end of a part."""
        at = part.end.input
        return self.before(at) + (int(self._sizes[at] * part.share) if at < len(self._sizes) else 0)
