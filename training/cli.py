"""The `embargo` command. Imports torch only in the commands that train, measure or export."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from serving import cli as serving_cli
from serving.errors import CorpusError, EmbargoError
from serving.settings import RELEASED_MODEL, find_model
from training import data_cli
from training.data_cli import OWN_CORPUS, SchemaOption
from training.progress import ProgressView, progress_bar
from training.requirements import needs_training_extra
from training.schema import Schema, load_schema, schema_of, schema_of_model

if TYPE_CHECKING:
    from training.corpus import AnnotatedDocument

app = typer.Typer(help="Embargo reads sanctions news.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(data_cli.app, name="data")
app.command()(serving_cli.serve)
app.command()(serving_cli.analyze)

BUILD = Path("build")


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
) -> None:
    """Train a model on labelled documents and write a complete model folder."""
    needs_training_extra()
    from training.config import TrainConfig
    from training.job import TrainingJob, run_job, split_name

    split_name(name)  # before anything of that name is thrown away
    job = TrainingJob(
        data=data,
        extra=[word for given in extra or [] for word in given.split()],
        start=start or _default_start(),
        name=name,
        config=TrainConfig.from_toml(config) if config else TrainConfig(),
        schema=load_schema(schema_file or schema_of(data)),
        run_folder=BUILD / "runs" / name,
        model_folder=BUILD / "models" / name,
        command=_command(),
    )
    if restart:
        shutil.rmtree(job.run_folder, ignore_errors=True)
    with ProgressView() as progress:
        metrics = run_job(job, progress)
    _echo_metrics(metrics)
    typer.echo(f"Wrote {job.model_folder}. Serve it with: make serve MODEL={job.model_folder}")


@app.command()
def trials(
    file: Annotated[Path, typer.Argument(help="TOML file of variants, seeds and corpora (docs/trials).")],
    output: Annotated[Path | None, typer.Option("-o", help="Folder of the rows.")] = None,
    restart: Annotated[bool, typer.Option(help="Run finished trials again.")] = False,
    schema_file: SchemaOption = None,
) -> None:
    """Train variants of a run side by side and compare them: ablations and learning curves."""
    needs_training_extra()
    from training.manifest import Provenance
    from training.trials import TrialFile, TrialRunner, plot_by_documents, table

    found = TrialFile.load(file)
    target = output or BUILD / "trials" / file.stem
    if restart:
        shutil.rmtree(target, ignore_errors=True)
    schema = load_schema(schema_file or schema_of(Path(found.data[0])))
    code = Provenance.now(_command(), 0, found.start, {}).code_hash()
    with ProgressView() as progress:
        rows = TrialRunner(found, schema, target, code).run(progress)
    Console().print(table(rows))
    if len({row["documents"] for row in rows}) > 1:
        plot_by_documents(rows, target / "curve.png")
    typer.echo(f"Wrote {target}.")


@app.command()
def evaluate(
    model: serving_cli.ModelOption = RELEASED_MODEL,
    data: Annotated[
        list[str] | None, typer.Option(help="Corpus folder (its dev and test) or a file of documents.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Folder of the report.")] = None,
    against: Annotated[
        Path, typer.Option(help="Folder of other systems' predictions (`embargo baselines`).")
    ] = BUILD / "baselines",
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
    paths = [Path(word) for given in data or [str(OWN_CORPUS)] for word in given.split()]
    results = {}
    sets = []
    for file in _evaluation_files(paths):
        documents = _sound_documents(file, schema)
        with progress_bar(f"reading {file.name}", len(documents)) as progress:
            readings = read(analyzer, documents, schema, progress)
        cross_fit = was_dev_data(folder.path, file)
        results[str(file)] = measure(analyzer, readings, schema, cross_fit=cross_fit)
        others = {
            system: evaluate_predictions(documents, predictions, schema)
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
    rows = dict(results)
    for measured in sets:
        rows.update({f"{measured.name}: {system}": other for system, other in measured.others.items()})
    console.print(report.table(rows))
    typer.echo(f"Wrote {target}/report.html, report.json and report.png.")


@app.command()
def stress(
    file: Annotated[Path, typer.Argument(help="Annotated documents (.jsonl).")],
    model: serving_cli.ModelOption = RELEASED_MODEL,
) -> None:
    """Read the same documents in capitals, in lower case, headline apart, inside long reports."""
    needs_training_extra()
    from rich.table import Table

    from serving.analyzer import Analyzer
    from serving.model_folder import ModelFolder
    from training.stress import losses
    from training.stress import stress as dress

    folder = ModelFolder.open(find_model(model))
    schema = schema_of_model(folder.config)
    with progress_bar("reading", None):
        results = dress(Analyzer.load(folder), _sound_documents(file, schema), schema)
    table = Table("documents", "span F1", "change", "label micro-F1", "change", box=None)
    for name, (spans, labels) in losses(results).items():
        micro = results[name].spans.micro.f1, results[name].labels.micro.f1
        table.add_row(name, f"{micro[0]:.4f}", f"{spans:+.4f}", f"{micro[1]:.4f}", f"{labels:+.4f}")
    Console().print(table)


@app.command()
def baselines(
    data: Annotated[
        list[str] | None, typer.Option(help="Corpora to train on, as `embargo train` takes them.")
    ] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="Corpus folders (their dev and test) or files to read.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", help="Folder of models and predictions.")] = BUILD
    / "baselines",
    seed: Annotated[int, typer.Option(help="The same seed gives the same baselines.")] = 13,
    spacy_steps: Annotated[int, typer.Option(help="Most batches that spaCy trains on.")] = 6000,
) -> None:
    """Train what Embargo is measured against, and let it read: lookup, TF-IDF, spaCy's CNN."""
    needs_training_extra()
    from training.baselines.run import run_baselines
    from training.config import TrainConfig
    from training.job import gather

    corpora = [word for given in data or [str(OWN_CORPUS)] for word in given.split()]
    files = _evaluation_files(
        [Path(word) for given in measure or [str(OWN_CORPUS)] for word in given.split()]
    )
    schema = load_schema(schema_of(Path(corpora[0])))
    gathered = gather(corpora, schema, TrainConfig(seed=seed))
    run_baselines(gathered.data, files, schema, output, seed=seed, spacy_steps=spacy_steps, say=typer.echo)
    typer.echo(f"Wrote {output}. `embargo evaluate` puts it beside the model.")


@app.command()
def calibrate(
    model: Annotated[Path, typer.Option("--model", help="Model folder with model.safetensors.")],
    data: Annotated[list[str], typer.Option(help="Corpus folders: dev to fit on, test to measure on.")],
    output: Annotated[Path, typer.Option("-o", help="New model folder; may be the same.")],
) -> None:
    """Fit a model's temperatures and thresholds again, on other dev documents, and measure it."""
    needs_training_extra()
    from serving.model_folder import ModelFolder
    from training.corpus import split_file
    from training.folder import EvaluationSet
    from training.recalibrate import recalibrate

    folder = find_model(model)
    schema = schema_of_model(ModelFolder.open(folder, verify=False).config)
    corpora = [Path(word) for given in data for word in given.split()]
    dev = [file for corpus in corpora if (file := split_file(corpus, "dev"))]
    test = [file for corpus in corpora if (file := split_file(corpus, "test"))]
    sets = [EvaluationSet(str(file), _sound_documents(file, schema), file in dev) for file in dev + test]
    with progress_bar("calibrating and measuring", None):
        metrics = recalibrate(folder, output, sets, dev, _command())
    _echo_metrics(metrics)
    typer.echo(f"Wrote {output}.")


@app.command()
def export(
    model: serving_cli.ModelOption = RELEASED_MODEL,
    output: Annotated[Path | None, typer.Option("-o", help="New model folder.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise; kept only if the gate passes.")] = False,
    gate_data: Annotated[Path, typer.Option(help="Documents that the int8 gate reads.")] = OWN_CORPUS
    / "dev.jsonl",
) -> None:
    """Make a model folder again from its weights; int8 only through the accuracy gate."""
    needs_training_extra()
    from serving.model_folder import ModelFolder
    from training.export import Variant
    from training.reexport import export_folder

    variant: Variant = "int8" if int8 else "fp32"
    folder = find_model(model)
    target = output or BUILD / "models" / f"{folder.name}-{variant}"
    schema = schema_of_model(ModelFolder.open(folder, verify=False).config)
    documents = _sound_documents(gate_data, schema) if int8 else []
    with progress_bar(f"exporting {variant}", None):
        report = export_folder(folder, target, variant, documents)
    if report:
        typer.echo(report.line())
    typer.echo(f"Wrote {target}.")


def main() -> None:
    """Run the command line; an expected error is one line and exit code 1."""
    try:
        app()
    except EmbargoError as error:
        typer.echo(f"embargo: {error}", err=True)
        raise SystemExit(1) from error


def _command() -> str:
    return shlex.join(["embargo", *sys.argv[1:]])


def _echo_metrics(metrics: "Mapping[str, Mapping[str, Any]]") -> None:
    for data, summary in metrics.items():
        spans, labels = summary["span_micro_f1"], summary["label_macro_f1"]
        typer.echo(f"{data}: strict span micro-F1 {spans}, label macro-F1 {labels}")


def _sound_documents(file: Path, schema: Schema) -> "list[AnnotatedDocument]":
    """The documents of a file, all with types and labels that the model knows."""
    from training.corpus import read_corpus
    from training.validate import problems

    documents = list(read_corpus(file))
    if wrong := [problem for document in documents for problem in problems(document, schema)]:
        raise CorpusError(f"{file}: {len(wrong)} problems, the first: {wrong[0]}")
    return documents


def _evaluation_files(paths: list[Path]) -> list[Path]:
    from training.corpus import split_file

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [f for split in ("dev", "test") if (f := split_file(path, split))]
        else:
            files.append(path)
    if not files:
        raise CorpusError(f"{', '.join(map(str, paths))}: no dev.jsonl or test.jsonl to evaluate on.")
    return files


def _default_start() -> str:
    has_weights = (RELEASED_MODEL / "model.safetensors").is_file()
    return str(RELEASED_MODEL) if has_weights else "backbone"
