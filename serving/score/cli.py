"""`embargo score`: a corpus in, one result a document out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from serving.cli import ModelOption, offset_unit_named
from serving.errors import ScoreError
from serving.settings import RELEASED_MODEL, find_model

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from serving.score.parts import Part
    from serving.score.scoring import Scored

WITH_REJECTS = 3
"""Exit code of a run that is done, but for some rows that could not be scored."""

_INPUTS = (
    "Files (.jsonl, .csv, .tsv, each also .gz or .zst; .parquet; .txt), folders of .txt, patterns, or -."
)
_OUTPUT = (
    "A file (.jsonl, .ftm.jsonl, each also .gz or .zst; .parquet), a name without suffix for a folder of "
    "parts, or -."
)


def score(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help=_INPUTS)],
    output: Annotated[str, typer.Option("-o", "--output", metavar="OUT", help=_OUTPUT)],
    model: ModelOption = RELEASED_MODEL,
    text_field: Annotated[str, typer.Option(help="Field or column with the text.")] = "text",
    id_field: Annotated[
        str, typer.Option(help="With the id; a row without one gets its number, from 0.")
    ] = "id",
    title_field: Annotated[str, typer.Option(help="With the title.")] = "title",
    date_field: Annotated[
        str | None, typer.Option(help="With the date, which then goes into the rows as published_at.")
    ] = None,
    spans: Annotated[
        Path | None, typer.Option(help="Also write a flat table of spans (.parquet, .jsonl …).")
    ] = None,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Rows also hold title, text and date.")
    ] = False,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="The sentences that speak for each label.")
    ] = False,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="In place of the model's thresholds.")
    ] = None,
    offset_unit: Annotated[str, typer.Option(help="codepoint, utf16 or utf8.")] = "codepoint",
    rejects: Annotated[
        Path | None, typer.Option(help="What could not be scored (default: OUT.rejects.jsonl).")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Of - and of the parts of a folder (default: jsonl); ftm: FollowTheMoney entities as lines.",
        ),
    ] = None,
    input_format: Annotated[
        str | None, typer.Option(help="Of - (default: jsonl) and of names without a known suffix: csv.gz …")
    ] = None,
    max_row_bytes: Annotated[
        int, typer.Option(min=1024, help="Longer rows are passed over and become rejects.")
    ] = 16 * 1024 * 1024,
    part_rows: Annotated[
        int,
        typer.Option(
            min=1,
            help="Rows that are kept together; a killed run loses two parts at most, on Ray all that are "
            "not read whole.",
        ),
    ] = 1024,
    threads: Annotated[
        int | None,
        typer.Option(
            envvar="EMBARGO_THREADS", min=1, help="Parallel forward passes; of each worker on Ray, there 1."
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or workers on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster: HOST:6379 or auto (default: RAY_ADDRESS, or this machine)."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="On Ray (default: as many as the nodes have room for).")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an earlier run wrote, finished or not.")
    ] = False,
) -> None:
    """Score a corpus. A run that was cut off goes on when the same command is given again, without --restart.

    Exit code 0: every row was scored. 3: done, but some rows are in OUT.rejects.jsonl.
    1: the run could not begin or go on; what is done is kept in OUT.work.
    """
    from serving.analyzer import Analyzer
    from serving.model_folder import ModelFolder
    from serving.results import Analysis, Document, Options
    from serving.score.extra import needs_extra
    from serving.score.job import STDOUT, ScoreJob
    from serving.score.parts import Cut
    from serving.score.progress import ProgressView, summary
    from serving.score.reading import Fields
    from serving.score.run import run_score
    from serving.score.scoring import score_parts

    job = ScoreJob(
        inputs=inputs,
        output=output,
        options=Options(evidence=evidence, min_score=min_score, offset_unit=offset_unit_named(offset_unit)),
        fields=Fields(text_field, id_field, title_field, date_field or Fields().date),
        cut=Cut(rows=part_rows),
        max_row_bytes=max_row_bytes,
        input_format=input_format,
        form=form,
        with_text=with_text,
        with_date=date_field is not None,
        spans=spans,
        rejects=rejects,
        restart=restart,
    )
    if engine == "ray":
        needs_extra("ray", "cluster", "--engine ray")
        if output == STDOUT:
            raise ScoreError("--engine ray finishes parts in any order; name an output file instead of -.")
    elif address or workers:
        raise ScoreError("--address and --workers are of a Ray cluster; give --engine ray, too.")
    folder = ModelFolder.open(find_model(model))
    view = ProgressView()

    def local_engine(parts: "Iterator[Part]") -> "Generator[Scored]":
        analyzer = Analyzer.load(folder, threads=threads)

        def analyze(documents: list[Document]) -> list[Analysis]:
            analyses = analyzer.analyze(documents, job.options, alone=True)
            view.piece(analyses)
            return analyses

        yield from score_parts(parts, analyze)

    def ray_engine(parts: "Iterator[Part]") -> "Generator[Scored]":
        from serving.score.cluster import Cluster, score_on_ray

        cluster = Cluster(address or os.environ.get("RAY_ADDRESS"), threads or 1, workers)
        yield from score_on_ray(parts, cluster, folder, job.options, view.piece)

    try:
        with view:
            outcome = run_score(job, folder, local_engine if engine == "local" else ray_engine, view)
    except KeyboardInterrupt as error:
        kept = "" if output == STDOUT else "; the same command, without --restart, goes on where it was"
        raise ScoreError(f"interrupted{kept}.") from error
    typer.echo(summary(outcome.counts, outcome.before, outcome.seconds), err=True)
    if outcome.counts.rejected:
        typer.echo(f"{outcome.rejects} says what could not be scored, and why", err=True)
        raise typer.Exit(WITH_REJECTS)
