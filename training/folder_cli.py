"""`embargo calibrate`, `average` and `export`: a model folder made of others, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving import cli as serving_cli
from serving.errors import CorpusError, TrainingError
from serving.settings import RELEASED_MODEL, find_model
from training.corpus import Split, split_file
from training.inputs import BUILD, command_line, echo_metrics, sound_documents, words
from training.progress import progress_bar
from training.requirements import needs_training_extra
from training.schema import Schema, schema_of_model

if TYPE_CHECKING:
    from training.folder import EvaluationSet


def calibrate(
    model: Annotated[Path, typer.Option("--model", help="Model folder with model.safetensors.")],
    data: Annotated[list[str], typer.Option(help="Corpus folders: dev to fit on, test to measure on.")],
    output: Annotated[Path, typer.Option("-o", help="New model folder; may be the same.")],
) -> None:
    """Fit a model's temperatures and thresholds again, on other dev documents, and measure it."""
    needs_training_extra()
    from serving.model_folder import ModelFolder
    from training.recalibrate import recalibrate, recalibrated

    folder = find_model(model)
    schema = schema_of_model(ModelFolder.open(folder, verify=False).config)
    sets, dev = _evaluation_sets(words(data), schema)
    with progress_bar("calibrating and measuring", None):
        metrics = recalibrate(folder, output, sets, recalibrated(folder, dev, command_line()))
    echo_metrics(metrics)
    typer.echo(f"Wrote {output}.")


def average(
    models: Annotated[list[Path], typer.Argument(help="Model folders that started from the same weights.")],
    data: Annotated[list[str], typer.Option(help="Corpus folders: dev to fit on, test to measure on.")],
    name: Annotated[str, typer.Option(help="Name and version of the new model.")] = "mean-v1",
) -> None:
    """Write the mean of several models' weights, calibrated and measured."""
    needs_training_extra()
    from serving.model_folder import ModelFolder
    from training.average import average as write_average
    from training.manifest import Provenance

    folders = [find_model(model) for model in models]
    schema = schema_of_model(ModelFolder.open(folders[0], verify=False).config)
    sets, dev = _evaluation_sets(words(data), schema)
    made_of = Provenance.of_average(command_line(), folders, dev)
    target = BUILD / "models" / name
    with progress_bar("averaging, calibrating and measuring", None):
        metrics = write_average(folders, target, sets, made_of)
    echo_metrics(metrics)
    typer.echo(f"Wrote {target}.")


def export(
    model: serving_cli.ModelOption = RELEASED_MODEL,
    output: Annotated[Path | None, typer.Option("-o", help="New model folder.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise; kept only if the gate passes.")] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Corpus folders, needed by int8: dev to fit thresholds on, test to measure on."),
    ] = None,
    ranges: Annotated[
        Path | None,
        typer.Option(
            help="Documents that int8's ranges are measured on (default: train of the first --data)."
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(help="Documents that the int8 gate reads (default: dev of the first --data)."),
    ] = None,
) -> None:
    """Make a model folder again from its weights; int8 only through the accuracy gate."""
    needs_training_extra()
    from serving.model_folder import ModelFolder
    from training.reexport import Int8Job, export_again, export_int8

    folder = find_model(model)
    target = output or BUILD / "models" / f"{folder.name}-{'int8' if int8 else 'fp32'}"
    if not int8:
        with progress_bar("exporting", None):
            export_again(folder, target)
    else:
        corpora = words(data or [])
        if not corpora:
            raise TrainingError(
                "int8 got no corpus to fit thresholds on and to measure with; expected the corpora that the "
                "model was made for, for example --data my-corpus."
            )
        schema = schema_of_model(ModelFolder.open(folder, verify=False).config)
        sets, dev = _evaluation_sets(corpora, schema)
        files = {
            "ranges": [ranges or _split_of(corpora[0], "train", "--ranges")],
            "gate": [gate or _split_of(corpora[0], "dev", "--gate")],
            "dev": dev,
        }
        documents = {role: sound_documents(files[role][0], schema) for role in ("ranges", "gate")}
        job = Int8Job(**documents, sets=sets, files=files, command=command_line())
        with progress_bar("quantising, calibrating and measuring", None):
            report, metrics = export_int8(folder, target, job)
        typer.echo(report.line())
        echo_metrics(metrics)
    typer.echo(f"Wrote {target}.")


def _evaluation_sets(corpora: Sequence[str], schema: Schema) -> "tuple[list[EvaluationSet], list[Path]]":
    """Dev and test of corpus folders, and the files of dev. Raises CorpusError at one that has neither."""
    from training.folder import EvaluationSet  # needs the training extra

    def files(split: Split) -> list[Path]:
        return [file for corpus in corpora if (file := split_file(Path(corpus), split))]

    for corpus in map(Path, corpora):
        if not (split_file(corpus, "dev") or split_file(corpus, "test")):
            got = "is a file" if corpus.is_file() else "is a folder with neither"
            raise CorpusError(
                f"--data: {corpus} {got if corpus.exists() else 'does not exist'}; expected a corpus folder "
                "with dev.jsonl or test.jsonl (`embargo data split` makes one of a file)."
            )
    dev = files("dev")
    sets = [
        EvaluationSet(str(file), sound_documents(file, schema), file in dev) for file in dev + files("test")
    ]
    return sets, dev


def _split_of(corpus: str, split: Split, option: str) -> Path:
    """The file of a split in a corpus folder. Raises CorpusError if it has none."""
    if (file := split_file(Path(corpus), split)) is None:
        raise CorpusError(f"{corpus} has no {split}.jsonl; name a file of documents with {option}.")
    return file
