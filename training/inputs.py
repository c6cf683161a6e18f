"""What commands share: words of options, files to measure on, sound documents, metrics shown."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, read_corpus, split_file
from training.schema import Schema

BUILD = Path("build")
BASELINES = BUILD / "baselines"


def words(given: Sequence[str]) -> list[str]:
    """Values of an option that may be repeated, and may hold several, as make passes them."""
    return [word for value in given for word in value.split()]


def command_line() -> str:
    """The command as it was typed, for manifests."""
    return shlex.join(["embargo", *sys.argv[1:]])


def sound_documents(file: Path, schema: Schema) -> list[AnnotatedDocument]:
    """The documents of a file, all with types and labels that the model knows."""
    from training.validate import problems  # needs the training extra

    documents = list(read_corpus(file))
    if wrong := [problem for document in documents for problem in problems(document, schema)]:
        raise CorpusError(f"{file}: {len(wrong)} problems, the first: {wrong[0]}")
    return documents


def evaluation_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and dev and test of folders. Raises CorpusError if there is none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [file for split in ("dev", "test") if (file := split_file(path, split))]
        else:
            files.append(path)
    if not files:
        raise CorpusError(f"{', '.join(map(str, paths))}: no dev.jsonl or test.jsonl to evaluate on.")
    return files


def echo_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what a new model reaches, a line a file that it was measured on."""
    for data, summary in metrics.items():
        spans, labels = summary["span_micro_f1"], summary["label_macro_f1"]
        typer.echo(f"{data}: strict span micro-F1 {spans}, label macro-F1 {labels}")
