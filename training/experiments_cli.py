"""`embargo trials`, `baselines` and `stress`: how variants, other systems and other dress compare."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serving import cli as serving_cli
from serving.settings import RELEASED_MODEL, find_model
from training.data_cli import OWN_CORPUS, SchemaOption
from training.inputs import (
    BASELINES,
    BUILD,
    command_line,
    evaluation_files,
    sound_documents,
    words,
)
from training.progress import ProgressView, progress_bar
from training.requirements import needs_baselines_extra, needs_training_extra
from training.schema import load_schema, schema_of, schema_of_model


def trials(
    file: Annotated[Path, typer.Argument(help="TOML file of variants, seeds and corpora (docs/trials).")],
    output: Annotated[Path | None, typer.Option("-o", help="Folder of the rows.")] = None,
    restart: Annotated[bool, typer.Option(help="Run finished trials again.")] = False,
    schema_file: SchemaOption = None,
) -> None:
    """Train variants of a run side by side and compare them: ablations and learning curves."""
    needs_training_extra()
    from training.manifest import Provenance
    from training.trials import ROWS, RUNS, TrialFile, TrialRunner, plot_by_documents, table

    found = TrialFile.load(file)
    target = output or BUILD / "trials" / file.stem
    if restart:
        (target / ROWS).unlink(missing_ok=True)
        shutil.rmtree(target / RUNS, ignore_errors=True)
    schema = load_schema(schema_file or schema_of(Path(found.data[0])))
    code = Provenance.now(command_line(), 0, found.start, {}).code_hash()
    with ProgressView() as progress:
        rows = TrialRunner(found, schema, target, code).run(progress)
    Console().print(table(rows))
    if len({row["documents"] for row in rows}) > 1:
        plot_by_documents(rows, target / "curve.png")
    typer.echo(f"Wrote {target}.")


def baselines(
    data: Annotated[
        list[str] | None, typer.Option(help="Corpora to train on, as `embargo train` takes them.")
    ] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="Corpus folders (their dev and test) or files to read.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", help="Folder of models and predictions.")] = BASELINES,
    seed: Annotated[int, typer.Option(help="The same seed gives the same baselines.")] = 13,
    spacy_steps: Annotated[int, typer.Option(help="Most batches that spaCy trains on.")] = 6000,
) -> None:
    """Train what Embargo is measured against, and let it read: lookup, TF-IDF, spaCy's CNN."""
    needs_training_extra()
    needs_baselines_extra()
    from training.baselines.run import run_baselines
    from training.config import TrainConfig
    from training.job import gather

    corpora = words(data or [str(OWN_CORPUS)])
    files = evaluation_files([Path(word) for word in words(measure or [str(OWN_CORPUS)])])
    schema = load_schema(schema_of(Path(corpora[0])))
    gathered = gather(corpora, schema, TrainConfig(seed=seed))
    run_baselines(gathered.data, files, schema, output, seed=seed, spacy_steps=spacy_steps, say=typer.echo)
    typer.echo(f"Wrote {output}. `embargo evaluate` puts it beside the model.")


def stress(
    file: Annotated[Path, typer.Argument(help="Annotated documents (.jsonl).")],
    model: serving_cli.ModelOption = RELEASED_MODEL,
) -> None:
    """Read the same documents in capitals, in lower case, headline apart, inside long reports."""
    needs_training_extra()
    from serving.analyzer import Analyzer
    from serving.model_folder import ModelFolder
    from training.stress import stress as read_dressed

    folder = ModelFolder.open(find_model(model))
    schema = schema_of_model(folder.config)
    with progress_bar("reading", None):
        found = read_dressed(Analyzer.load(folder), sound_documents(file, schema), schema)
    shown = Table("documents", "", "span F1", "change", "label micro-F1", "change", box=None)
    for name, row in found.items():
        spans, labels = row.result.spans.micro.f1, row.result.labels.micro.f1
        changes = f"{row.span_change:+.4f}", f"{row.label_change:+.4f}"
        shown.add_row(
            name, str(row.result.documents), f"{spans:.4f}", changes[0], f"{labels:.4f}", changes[1]
        )
    Console().print(shown)
    typer.echo("Changes are against the same documents as they are, under the model's own thresholds.")
