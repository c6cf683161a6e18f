"""`embargo data …`: labelled corpora, compiled, checked and converted."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.requirements import needs_training_extra
from training.schema import load_schema, schema_of

if TYPE_CHECKING:
    from training.build import Statistics

app = typer.Typer(help="Labelled corpora: compile, check, convert.", no_args_is_help=True)

OWN_CORPUS = Path("datasets/sanctions-news")

SchemaOption = Annotated[
    Path | None,
    typer.Option("--schema", help="Names of types and labels [default: the corpus's schema.toml, or ours]."),
]


@app.command("build")
def build_command(
    folder: Annotated[Path, typer.Argument(help="Corpus folder with documents/<split>/*.txt.")] = OWN_CORPUS,
    schema_file: SchemaOption = None,
) -> None:
    """Compile authored documents (inline markup) to train.jsonl, dev.jsonl and test.jsonl."""
    needs_training_extra()
    from training.build import build

    _print_statistics(build(folder, load_schema(schema_file or schema_of(folder))))


@app.command("validate")
def validate_command(
    folder: Annotated[Path, typer.Argument(help="Corpus folder with <split>.jsonl.")] = OWN_CORPUS,
    schema_file: SchemaOption = None,
) -> None:
    """Check a corpus: offsets, names, label rules, near-duplicates; print its counts."""
    needs_training_extra()
    from training.build import check

    _print_statistics(check(folder, load_schema(schema_file or schema_of(folder))))


def _print_statistics(splits: "Mapping[str, Statistics]") -> None:
    table = Table("", *splits, "all", box=None)
    columns = list(splits.values())
    numbers = [("documents", [s.documents for s in columns]), ("words", [s.words for s in columns])]
    for counts in ("types", "labels"):
        numbers.append(("", []))
        names = sorted({name for s in columns for name in getattr(s, counts)})
        numbers += [(name, [getattr(s, counts)[name] for s in columns]) for name in names]
    for name, values in numbers:
        table.add_row(name, *map(str, values), str(sum(values)) if values else "")
    Console().print(table)
