"""A corpus run: what to read is found, parts are scored and kept, and put together in the end.

`embargo score` reads downward here. Reading and writing take place while the engine works on the next
part (`scoring.score_parts`); nothing is held in memory but a few parts.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from serving import api
from serving.errors import ScoreError
from serving.model_folder import ModelFolder
from serving.results import Analysis, Document, Options
from serving.score import outputs
from serving.score.finish import REJECTS, Targets, finish, finished_before, locked
from serving.score.manifest import Counts, Ledger, RunIdentity, software
from serving.score.outputs import OutputFormat, RowStyle, checked_format, output_format
from serving.score.parts import Cut, Part, Start, read_parts
from serving.score.rows import Fields
from serving.score.scoring import Analyze, Reject, Scored, score_parts
from serving.score.sources import STDIN, Source, SourceIdentity, find_sources

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """What `embargo score` is asked to do."""

    inputs: Sequence[str]
    output: str
    options: Options = field(default_factory=Options)
    fields: Fields = field(default_factory=Fields)
    cut: Cut = field(default_factory=Cut)
    max_row_bytes: int = 16 * 1024 * 1024
    input_format: str | None = None
    form: str | None = None
    """Of the parts of a folder, and of stdout; a file's is its suffix."""
    with_text: bool = False
    with_date: bool = False
    spans: Path | None = None
    rejects: Path | None = None
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    counts: Counts
    before: Counts
    """What earlier sessions of the run had done."""
    seconds: float
    rejects: Path


class View(Protocol):
    """Who is told how far a run is."""

    def begin(self, total_bytes: int | None, done_bytes: int, done: Counts) -> None: ...  # noqa: D102
    def piece(self, analyses: Sequence[Analysis]) -> None: ...  # noqa: D102
    def part(self, counts: Counts, done_bytes: int) -> None: ...  # noqa: D102


def run_score(job: ScoreJob, model: ModelFolder, load: Callable[[], Analyze], view: View) -> Outcome:
    """Score a corpus. `load` gives the engine, once it is known that there is something to do.

    Raises ScoreError if the run cannot begin, go on or be finished; all that is done is kept.
    """
    try:
        return (
            _to_stdout(job, model, load, view) if job.output == STDOUT else _to_disk(job, model, load, view)
        )
    except BrokenPipeError as error:
        raise ScoreError("whoever read the output went away; nothing was kept.") from error
    except OSError as error:
        kept = (
            "" if job.output == STDOUT else " All parts that are done are kept: run the same command again."
        )
        raise ScoreError(
            f"{error.filename or job.output} cannot be written ({error.strerror or error}). Make room, or "
            f"whatever else it needs.{kept}"
        ) from error


def _to_disk(job: ScoreJob, model: ModelFolder, load: Callable[[], Analyze], view: View) -> Outcome:
    targets = _targets(job)
    sources = find_sources(job.inputs, outputs=targets.made(), input_format=job.input_format)
    stamps = _stamps(sources)
    identity = _identity(job, model, sources, targets)
    if not job.restart and (finished := finished_before(targets, identity)):
        return Outcome(finished.counts, finished.counts, 0.0, targets.rejects)
    with locked(targets.work):
        if job.restart:
            targets.clear()
        ledger = Ledger(targets.work)
        ledger.open(identity)
        before, start = ledger.counts(), ledger.start()
        parts = read_parts(sources, job.fields, job.cut, job.max_row_bytes, start)
        missing = (part for part in parts if part.number not in ledger.receipts)
        gauge = _Gauge(identity.inputs)
        started = time.monotonic()
        for scored in _scored(missing, load, view, gauge, before, start):
            ledger.put(
                scored.part.number, scored.part.end, _counts(scored), _files(scored, targets, job, model)
            )
            view.part(_counts(scored), gauge.bytes(scored.part))
        if changed := [name for name, stamp in _stamps(sources).items() if stamp != stamps[name]]:
            raise ScoreError(f"{changed[0]} was changed while it was read; --restart to begin anew.")
        finished = finish(ledger, targets, identity)
        return Outcome(finished.counts, before, time.monotonic() - started, targets.rejects)


def _to_stdout(job: ScoreJob, model: ModelFolder, load: Callable[[], Analyze], view: View) -> Outcome:
    form = checked_format(job.form or "jsonl")
    if job.rejects is None:
        raise ScoreError("with - as output, name a file for what cannot be scored: --rejects FILE.")
    if job.spans or job.restart or form == "parquet":
        raise ScoreError("--spans, --restart and Parquet need an output file; - is written once, in order.")
    sources = find_sources(job.inputs, outputs=[job.rejects], input_format=job.input_format)
    gauge = _Gauge([source.identity() for source in sources])
    style = _style(job, model, form)
    total, started = Counts(), time.monotonic()
    parts = read_parts(sources, job.fields, job.cut, job.max_row_bytes, Start())
    with outputs.written_whole(job.rejects) as rejects:
        for scored in _scored(parts, load, view, gauge, total, Start()):
            sys.stdout.buffer.write(outputs.encode(outputs.row_lines(scored, style), "rows", form))
            sys.stdout.buffer.flush()
            rejects.write(outputs.reject_lines(scored))
            total += _counts(scored)
            view.part(_counts(scored), gauge.bytes(scored.part))
    return Outcome(total, Counts(), time.monotonic() - started, job.rejects)


def _scored(
    parts: Iterator[Part],
    load: Callable[[], Analyze],
    view: View,
    gauge: "_Gauge",
    done: Counts,
    start: Start,
) -> Iterator[Scored]:
    analyze = load()

    def seen(documents: list[Document]) -> list[Analysis]:
        analyses = analyze(documents)
        view.piece(analyses)
        return analyses

    view.begin(gauge.total, gauge.before(start.place.input), done)
    return score_parts(parts, seen)


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


def _targets(job: ScoreJob) -> Targets:
    out = Path(job.output)
    if not out.name:
        raise ScoreError(f"{job.output!r} is no name of an output; name a file or a new folder.")
    is_folder = not out.suffix or job.output.endswith("/")
    if not is_folder and job.form not in (None, form := output_format(job.output)):
        raise ScoreError(f"{job.output} and --format {job.form} say different formats; leave --format out.")
    form = checked_format(job.form or "jsonl") if is_folder else form
    return Targets(
        out=out,
        rejects=job.rejects or out.with_name(f"{out.name}.{REJECTS}"),
        spans=job.spans,
        form=form,
        spans_form=output_format(str(job.spans)) if job.spans else None,
        is_folder=is_folder,
    )


def _identity(job: ScoreJob, model: ModelFolder, sources: Sequence[Source], targets: Targets) -> RunIdentity:
    options = {
        **asdict(job.options),
        **{f"{name}_field": value for name, value in asdict(job.fields).items()},
        **{f"part_{name}": value for name, value in asdict(job.cut).items()},
        "max_row_bytes": job.max_row_bytes,
        "input_format": job.input_format,
        "with_text": job.with_text,
        "with_date": job.with_date,
        "format": targets.form,
        "spans": targets.spans_form,
    }
    written_by_arrow = "parquet" in (targets.form, targets.spans_form)
    return RunIdentity(
        model=api.model_identity(model),
        options=options,
        inputs=tuple(source.identity() for source in sources),
        software=software(*(["pyarrow"] if written_by_arrow else [])),
    )


def _stamps(sources: Sequence[Source]) -> dict[str, tuple[int, int] | None]:
    """Size and time of each file, None where there is none."""
    found = {source.name: source.path.stat() if source.path.is_file() else None for source in sources}
    return {name: (stat.st_size, stat.st_mtime_ns) if stat else None for name, stat in found.items()}


def _style(job: ScoreJob, model: ModelFolder, form: OutputFormat) -> RowStyle:
    return RowStyle(model.sha256, job.with_text, job.with_date, text_ids=form == "parquet")


def _files(scored: Scored, targets: Targets, job: ScoreJob, model: ModelFolder) -> dict[str, bytes]:
    """The files of a part by suffix."""
    rows = outputs.row_lines(scored, _style(job, model, targets.form))
    files: dict[str, bytes] = {
        targets.form: outputs.encode(rows, "rows", targets.form),
        REJECTS: outputs.reject_lines(scored),
    }
    if form := targets.spans_form:
        spans = outputs.span_lines(scored, text_ids=form == "parquet")
        files[f"spans.{form}"] = outputs.encode(spans, "spans", form)
    return files


def _counts(scored: Scored) -> Counts:
    rejected = sum(isinstance(result, Reject) for result in scored.results)
    read = len(scored.results)
    return Counts(
        read=read,
        written=read - rejected,
        rejected=rejected,
        repeated=scored.repeated,
        tokens=scored.tokens,
    )
