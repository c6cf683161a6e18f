"""A corpus run: inputs are found, parts are scored and kept, and put together in the end.

`embargo score` reads downward here. Reading and writing take place while the engine works on the next
part; nothing is held in memory but a few parts.
"""

import os
import sqlite3
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
from serving.score.parts import Part, Start, check_stdin, read_parts
from serving.score.repeats import TEXTS, Repeats
from serving.score.scoring import Counts, Scored, check_reconciled
from serving.score.sources import Source, find_sources

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
    except (OSError, sqlite3.OperationalError) as error:
        again = " All parts that are done are kept; then run the same command again, without --restart."
        kept = "" if to_stdout else again
        raise ScoreError(
            f"{getattr(error, 'filename', None) or job.output} cannot be written or read "
            f"({getattr(error, 'strerror', None) or error}); make room, or whatever else it needs.{kept}"
        ) from error


def _to_disk(job: ScoreJob, model: ModelFolder, engine: Engine, view: View) -> Outcome:
    targets = job.targets()
    sources = find_sources(job.inputs, outputs=targets.own(), input_format=job.input_format)
    stamps = _stamps(sources)
    identity = job.identity(model, sources, targets)
    known = [source.known(of) for source, of in zip(sources, identity.inputs, strict=True)]
    inputs = job.reading(known, targets.form)
    for made in targets.made():
        made.parent.mkdir(parents=True, exist_ok=True)
    with locked(targets.work):
        ledger = Ledger(targets.work, identity)
        if job.restart:
            targets.check_folders()
            ledger.begin()
            targets.clear()
        elif finished := finished_before(targets, identity):
            check_stdin(inputs, finished.end)
            targets.clear_work()
            return Outcome(finished.counts, finished.counts, 0.0, targets.rejects)
        ledger.open()
        targets.manifest.unlink(missing_ok=True)  # of a finished run whose output was taken away
        before, start, started = ledger.counts(), ledger.start(), time.monotonic()
        gauge = _Gauge([source.size() for source in sources])
        view.begin(gauge.total, gauge.before(start.place.input), before)
        parts = _Counted(read_parts(inputs, job.cut, start), start.rows)
        missing = (part for part in parts if part.number not in ledger.receipts)
        with (
            closing(Repeats(targets.work / "index.tmp")) as repeats,
            closing(engine(repeats.firsts(missing))) as results,
        ):
            for number in ledger.receipts:
                repeats.load(number, ledger.read(number, TEXTS))
            for scored, texts in repeats.whole(results):
                files, counts = _files(scored, targets, _style(job, model, targets.form))
                ledger.put(scored.part.number, scored.part.end, counts, {**files, TEXTS: texts})
                view.part(counts, gauge.bytes(scored.part))
        if changed := {name for name, _ in stamps.items() ^ _stamps(sources).items()}:
            raise ScoreError(f"{min(changed)} was changed while it was read; --restart to begin anew.")
        check_reconciled(ledger.counts(), parts.rows)
        finished = finish(ledger, targets)
        return Outcome(finished.counts, before, time.monotonic() - started, targets.rejects)


def _to_stdout(job: ScoreJob, model: ModelFolder, engine: Engine, view: View) -> Outcome:
    form = outputs.checked_format(job.form or "jsonl")
    if job.rejects is None:
        raise ScoreError("with - as output, name a file for what cannot be scored: --rejects FILE.")
    if job.spans or job.restart or form == "parquet":
        raise ScoreError("--spans, --restart and Parquet need an output file; - is written once, in order.")
    sources = find_sources(job.inputs, outputs=[job.rejects], input_format=job.input_format)
    gauge = _Gauge([source.size() for source in sources])
    counts, started = Counts(), time.monotonic()
    view.begin(gauge.total, 0, counts)
    parts = _Counted(read_parts(job.reading(sources, form), job.cut, Start()), 0)
    with (
        outputs.written_whole(job.rejects) as rejects,
        closing(Repeats(None)) as repeats,
        closing(engine(repeats.firsts(parts))) as results,
    ):
        for scored, _ in repeats.whole(results):
            style = _style(job, model, form)
            rows = outputs.row_lines(scored, style)
            sys.stdout.buffer.write(outputs.encode(rows, "rows", form))
            sys.stdout.buffer.flush()
            rejected = outputs.reject_lines(scored)
            rejects.write(rejected)
            written = outputs.documents_in(rows, style)
            done = scored.counts(written=written, rejected=rejected.count(b"\n"))
            counts += done
            view.part(done, gauge.bytes(scored.part))
    check_reconciled(counts, parts.rows)
    return Outcome(counts, Counts(), time.monotonic() - started, job.rejects)


def _files(scored: Scored, targets: Targets, style: RowStyle) -> tuple[dict[str, bytes], Counts]:
    """The files of a part by suffix, and how many rows went into them."""
    rows, rejected = outputs.row_lines(scored, style), outputs.reject_lines(scored)
    files: dict[str, bytes] = {
        targets.form: outputs.encode(rows, "rows", targets.form),
        REJECTS: rejected,
    }
    if form := targets.spans_form:
        spans = outputs.span_lines(scored, text_ids=form == "parquet")
        files[f"spans.{form}"] = outputs.encode(spans, "spans", form)
    written = outputs.documents_in(rows, style)
    return files, scored.counts(written=written, rejected=rejected.count(b"\n"))


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
    """Size and time of each file, also of those in folders; None where there is none."""
    paths = [path for source in sources if not source.is_stdin for path in _paths(source)]
    found = {str(path): path.stat() if os.path.isfile(path) else None for path in paths}
    return {name: (stat.st_size, stat.st_mtime_ns) if stat else None for name, stat in found.items()}


def _paths(source: Source) -> list[Path]:
    return [path for _, path in source.files()] if source.format == "folder" else [source.path]


class _Counted:
    """Parts on their way to the engine, and the rows up to them."""

    def __init__(self, parts: Iterator[Part], before: int) -> None:
        self.rows = before
        self._parts = parts

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> Part:
        part = next(self._parts)
        self.rows += len(part.items)
        return part


class _Gauge:
    """How many bytes of the inputs have been gone through."""

    def __init__(self, sizes: Sequence[int | None]) -> None:
        self._sizes = [size or 0 for size in sizes]
        self.total = None if None in sizes else sum(self._sizes)

    def before(self, at: int) -> int:
        """Bytes of the inputs before this one."""
        return sum(self._sizes[:at])

    def bytes(self, part: Part) -> int:
        """Up to the end of a part."""
        at = part.end.input
        return self.before(at) + (int(self._sizes[at] * part.share) if at < len(self._sizes) else 0)
