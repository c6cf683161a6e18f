"""`embargo data pull-review`: the documents of a scored corpus that are worth labelling next."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli import ModelOption
from serving.errors import CorpusError
from serving.settings import RELEASED_MODEL, find_model
from training.requirements import needs_training_extra


def pull_review(
    scored: Annotated[
        list[Path], typer.Argument(help="What `embargo score --with-text` wrote: files, folders of parts.")
    ],
    output: Annotated[Path, typer.Option("-o", help="File for the annotation tool (.json, .jsonl).")],
    format_name: Annotated[str, typer.Option("--format", help="label-studio or doccano.")],
    count: Annotated[int, typer.Option(min=1, help="Documents to pick.")] = 100,
    model: ModelOption = RELEASED_MODEL,
    without: Annotated[
        list[Path] | None,
        typer.Option(help="Corpus folder or file whose documents, and copies of them, are not picked."),
    ] = None,
) -> None:
    """Pick what to label next, doubtful and diverse, and write it with the model's annotation."""
    needs_training_extra()
    from serving.model_folder import ModelFolder
    from training.corpus import SPLITS, read_corpus, split_file
    from training.formats import REVIEWS
    from training.review import pull_review as pull

    if format_name not in REVIEWS:
        raise CorpusError(f"no review in format {format_name!r}; expected one of {', '.join(REVIEWS)}.")
    if output.suffix not in (".json", ".jsonl"):  # other names are those of the files beside it
        raise CorpusError(f"{output} is no name for tasks; end it in .json or .jsonl.")
    folder = ModelFolder.open(find_model(model))
    known = []
    for corpus in without or []:
        files = [file for split in SPLITS if (file := split_file(corpus, split))]
        if not files:
            raise CorpusError(f"{corpus} holds no train, dev or test.jsonl, and is no corpus file.")
        known += [document for file in files for document in read_corpus(file)]
    suggestions = pull(scored, count, folder, known)
    output.parent.mkdir(parents=True, exist_ok=True)
    written = REVIEWS[format_name](suggestions, output, folder)
    typer.echo(f"Wrote {len(suggestions)} documents to {', '.join(map(str, written))}.")
    if len(suggestions) < count:
        typer.echo(
            f"{count} were asked for; there are no more but copies of these or of known documents.",
            err=True,
        )
