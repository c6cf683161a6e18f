"""The `embargo` command. Imports torch only in the commands that train, measure or export."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving import cli as serving_cli
from serving.errors import CorpusError, EmbargoError, TrainingError
from serving.score import cli as score_cli
from serving.settings import RELEASED_MODEL, find_model
from training import data_cli, experiments_cli, folder_cli
from training.data_cli import OWN_CORPUS, SchemaOption
from training.inputs import (
    BASELINES,
    BUILD,
    command_line,
    echo_metrics,
    evaluation_files,
    sound_documents,
    words,
)
from training.progress import ProgressView, progress_bar
from training.requirements import needs_training_extra
from training.schema import load_schema, schema_of, schema_of_model

app = typer.Typer(help="Embargo reads sanctions news.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(data_cli.app, name="data")
app.command(epilog=serving_cli.settings_help())(serving_cli.serve)
app.command()(serving_cli.analyze)
app.command()(score_cli.score)
app.command()(experiments_cli.trials)
app.command()(experiments_cli.stress)
app.command()(experiments_cli.baselines)
app.command()(folder_cli.calibrate)
app.command()(folder_cli.average)
app.command()(folder_cli.export)


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Corpus folder with train.jsonl and dev.jsonl.")] = OWN_CORPUS,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="More corpora: folder or file; FILE:TYPE,TYPE if it marks only these types."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Model folder, 'backbone', folder or hub id to start from.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name and version of the new model.")] = "custom-v1",
    config: Annotated[Path | None, typer.Option(help="TOML file with settings of TrainConfig.")] = None,
    restart: Annotated[bool, typer.Option(help="Throw away the checkpoint of an earlier run.")] = False,
    schema_file: SchemaOption = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Model folders whose mean opinion of unlabelled text is learned.")
    ] = None,
    unlabelled: Annotated[
        list[str] | None, typer.Option(help="Files of documents without annotation (.jsonl, .jsonl.gz).")
    ] = None,
) -> None:
    """Train a model on labelled documents and write a complete model folder."""
    needs_training_extra()
    from training.config import TrainConfig
    from training.job import TrainingJob, run_job, split_name

    split_name(name)  # before anything of that name is thrown away
    job = TrainingJob(
        data=data,
        extra=words(extra or []),
        start=start or _default_start(),
        name=name,
        config=TrainConfig.from_toml(config) if config else TrainConfig(),
        schema=load_schema(schema_file or schema_of(data)),
        run_folder=BUILD / "runs" / name,
        model_folder=BUILD / "models" / name,
        command=command_line(),
        teachers=[str(find_model(Path(folder))) for folder in words(teacher or [])],
        unlabelled=[Path(file) for file in words(unlabelled or [])],
    )
    if restart:
        shutil.rmtree(job.run_folder, ignore_errors=True)
    with ProgressView() as progress:
        metrics = run_job(job, progress)
    echo_metrics(metrics)
    typer.echo(f"Wrote {job.model_folder}. Serve it with: make serve MODEL={job.model_folder}")


@app.command()
def pretrain(
    texts: Annotated[
        list[Path], typer.Argument(help="Files of documents (.jsonl, .jsonl.gz); labels are not read.")
    ],
    output: Annotated[Path, typer.Option("-o", help="New folder, for `embargo train --from`.")],
    start: Annotated[str, typer.Option("--from", help="'backbone', a folder or a hub id.")] = "backbone",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away an unfinished run.")] = False,
) -> None:
    """Let an encoder read text of the field, with words hidden, before it is trained."""
    needs_training_extra()
    from training.manifest import Provenance
    from training.pretrain import PretrainConfig, Pretraining
    from training.unlabelled import draw_unlabelled

    if output.exists():
        raise TrainingError(f"{output} exists already; choose another folder with -o, or remove it.")
    settings = PretrainConfig.from_toml(config) if config else PretrainConfig()
    documents = draw_unlabelled(texts, None, settings.seed, frozenset())
    made_of = Provenance.now(command_line(), settings.seed, start, {"texts": texts})
    folder = BUILD / "pretraining" / output.name
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    run = Pretraining(settings, [d.document() for d in documents], start, folder, made_of.code_hash())
    with ProgressView() as progress:
        state = run.run(progress)
    run.write(output, state, made_of)
    typer.echo(f"Wrote {output}. Train from it with: embargo train --from {output}")


@app.command()
def evaluate(
    model: serving_cli.ModelOption = RELEASED_MODEL,
    data: Annotated[
        list[str] | None, typer.Option(help="Corpus folder (its dev and test) or a file of documents.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Folder of the report.")] = None,
    against: Annotated[
        Path, typer.Option(help="Folder of other systems' predictions (`embargo baselines`).")
    ] = BASELINES,
    cross_fit: Annotated[
        bool,
        typer.Option(
            "--cross-fit",
            help="Fit temperatures and label thresholds on these documents, each judged under those of "
            "others. Files that the model was calibrated on are always judged so.",
        ),
    ] = False,
) -> None:
    """Measure a model through the serving engine: table, JSON, a page with plots and errors."""
    needs_training_extra()
    from serving.analyzer import Analyzer
    from serving.api import model_identity
    from serving.model_folder import ModelFolder
    from training import report
    from training.evaluate import evaluate as measure
    from training.evaluate import read
    from training.html_report import Measured, write_html
    from training.manifest import was_dev_data
    from training.predictions import evaluate_predictions, predictions_of

    folder = ModelFolder.open(find_model(model))
    analyzer = Analyzer.load(folder)
    schema = schema_of_model(folder.config)
    if against != BASELINES and not against.is_dir():
        raise CorpusError(f"{against} is not a folder; expected what `embargo baselines -o` wrote.")
    paths = [Path(word) for word in words(data or [str(OWN_CORPUS)])]
    results = {}
    sets = []
    for file in evaluation_files(paths):
        documents = sound_documents(file, schema)
        with progress_bar(f"reading {file.name}", len(documents)) as progress:
            readings = read(analyzer, documents, schema, progress)
        fitted_here = cross_fit or was_dev_data(folder.path, file)
        results[str(file)] = measure(analyzer, readings, schema, cross_fit=fitted_here)
        others = {
            system: evaluate_predictions(documents, predictions, schema, cross_fit=fitted_here)
            for system, predictions in predictions_of(against, file).items()
        }
        sets.append(Measured(str(file), results[str(file)], others))
    target = output or BUILD / "reports" / folder.path.name
    target.mkdir(parents=True, exist_ok=True)
    report.write_json(results, model_identity(folder), target / "report.json")
    report.plot(results, target / "report.png")
    write_html(sets, model_identity(folder), target / "report.html")
    console = Console()
    for name, result in results.items():
        console.print(
            f"\n[bold]{name}[/] (label thresholds: {result.thresholds}; {result.unreachable_spans} of "
            f"{result.spans.micro.gold} gold spans unreachable)"
        )
        console.print(report.class_table(result))
    for measured in sets:
        console.print("", report.table(measured.name, {folder.path.name: measured.result, **measured.others}))
    typer.echo(f"Wrote {target}/report.html, report.json and report.png.")


def main() -> None:
    """Run the command line; an expected error is one line and exit code 1."""
    try:
        app()
    except EmbargoError as error:
        typer.echo(f"embargo: {error}", err=True)
        raise SystemExit(1) from error


def _default_start() -> str:
    has_weights = (RELEASED_MODEL / "model.safetensors").is_file()
    return str(RELEASED_MODEL) if has_weights else "backbone"
