"""`embargo data …`: labelled corpora, compiled, checked and converted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from serving.errors import CorpusError
from training import review_cli
from training.requirements import needs_training_extra
from training.schema import load_schema, schema_of

if TYPE_CHECKING:
    from training.formats import Format, Losses
    from training.statistics import Statistics

app = typer.Typer(help="Labelled corpora: compile, check, convert.", no_args_is_help=True)
app.command("pull-review")(review_cli.pull_review)

OWN_CORPUS = Path("datasets/sanctions-news")

SchemaOption = Annotated[
    Path | None,
    typer.Option("--schema", help="Names of types and labels (default: the corpus's schema.toml, or ours)."),
]


AllowLoss = Annotated[
    bool, typer.Option("--allow-loss", help="Succeed also if the format cannot hold everything.")
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
    folder: Annotated[
        Path, typer.Argument(help="Corpus folder with <split>.jsonl, or one file.")
    ] = OWN_CORPUS,
    schema_file: SchemaOption = None,
) -> None:
    """Check a corpus: offsets, names, label rules, near-duplicates; print its counts."""
    needs_training_extra()
    from training.build import check

    _print_statistics(check(folder, load_schema(schema_file or schema_of(folder))))


@app.command("stats")
def stats_command(
    corpora: Annotated[
        list[Path] | None, typer.Argument(help="Corpus folders or files, side by side.")
    ] = None,
    picture: Annotated[Path, typer.Option(help="Where the picture of the first corpus goes.")] = Path(
        "build/reports/corpus.png"
    ),
) -> None:
    """Count a corpus, also beside others: types, labels, lengths, density, variety."""
    needs_training_extra()
    from training.corpus import SPLITS, read_corpus, split_file
    from training.statistics import plot, statistics

    columns = {}
    for corpus in corpora or [OWN_CORPUS]:
        files = [f for split in SPLITS if (f := split_file(corpus, split))]
        columns[corpus.as_posix()] = [document for file in files for document in read_corpus(file)]
    _print_details({name: statistics(documents) for name, documents in columns.items()})
    picture.parent.mkdir(parents=True, exist_ok=True)
    first = next(iter(columns))
    plot({first: columns[first]}, picture)
    typer.echo(f"Wrote {picture}.")


@app.command("agreement")
def agreement_command(
    first: Annotated[
        Path, typer.Argument(help="One annotation (.jsonl or .jsonl.gz), with or without text.")
    ],
    second: Annotated[Path, typer.Argument(help="Another annotation of the same documents.")],
) -> None:
    """Compare two independent annotations: strict span F1 by type, kappa by label."""
    needs_training_extra()
    from training.agreement import agreement, read_annotation

    found = agreement(read_annotation(first), read_annotation(second))
    table = Table("", "agreement", "in first", box=None)
    for kind, counts in found.spans.per_class.items():
        table.add_row(kind, f"F1 {counts.f1:.3f}", str(counts.gold))
    table.add_section()
    for label, kappa in found.kappas.items():
        table.add_row(label, f"kappa {kappa:.3f}")
    Console().print(table)
    mean = sum(found.kappas.values()) / max(1, len(found.kappas))
    typer.echo(
        f"{found.documents} documents: strict span F1 {found.spans.micro.f1:.4f}, mean label kappa {mean:.3f}"
    )


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="What the annotation tool exported.")],
    format_name: Annotated[str, typer.Option("--format", help="Format, see `embargo data formats`.")],
    output: Annotated[Path, typer.Option("-o", help="Corpus file (.jsonl) to write.")],
    allow_loss: AllowLoss = False,
) -> None:
    """Turn an annotation tool's export into a corpus file."""
    needs_training_extra()
    from training.corpus import write_corpus
    from training.formats import Losses

    losses = Losses()
    documents = list(_format(format_name).read(file, losses))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_corpus(output, documents)
    _report(f"Wrote {len(documents)} documents to {output}.", losses, allow=allow_loss)


@app.command("export")
def export_command(
    file: Annotated[Path, typer.Argument(help="Corpus file (.jsonl).")],
    format_name: Annotated[str, typer.Option("--format", help="Format, see `embargo data formats`.")],
    output: Annotated[Path, typer.Option("-o", help="File or folder to write.")],
    allow_loss: AllowLoss = False,
) -> None:
    """Turn a corpus file into what an annotation tool imports."""
    needs_training_extra()
    from training.corpus import read_corpus
    from training.formats import Losses

    losses = Losses()
    documents = list(read_corpus(file))
    losses.add("that spans are unknown", sum(d.known_types is not None for d in documents))
    output.parent.mkdir(parents=True, exist_ok=True)
    _format(format_name).write(documents, output, losses)
    _report(f"Wrote {len(documents)} documents to {output}.", losses, allow=allow_loss)


@app.command("attach")
def attach_command(
    annotation: Annotated[Path, typer.Argument(help="Annotation apart from its text (.jsonl).")],
    texts: Annotated[list[Path], typer.Argument(help="Files with the texts (.jsonl, .jsonl.gz).")],
    output: Annotated[Path, typer.Option("-o", help="Corpus file (.jsonl) to write.")],
) -> None:
    """Put annotation that is shared without its text together with the text."""
    needs_training_extra()
    from training.corpus import write_corpus
    from training.standoff import attach

    documents = list(attach(annotation, texts))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_corpus(output, documents)
    typer.echo(f"Wrote {len(documents)} documents to {output}.")


@app.command("formats")
def formats_command() -> None:
    """List the formats that import and export know."""
    needs_training_extra()
    from training.formats import FORMATS

    table = Table(box=None, show_header=False)
    for name, known in FORMATS.items():
        table.add_row(name, known.about)
    Console().print(table)


@app.command("split")
def split_command(
    file: Annotated[Path, typer.Argument(help="One corpus file (.jsonl) to split.")],
    output: Annotated[Path, typer.Option("-o", help="Corpus folder for train, dev and test.jsonl.")],
    dev: Annotated[float, typer.Option(min=0, max=0.5, help="Share of dev.")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=0.5, help="Share of test.")] = 0.15,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 13,
) -> None:
    """Split a file at random into train, dev and test; copies of one story stay together."""
    needs_training_extra()
    from training.corpus import read_corpus, write_corpus
    from training.split import split_documents

    output.mkdir(parents=True, exist_ok=True)
    for name, documents in split_documents(list(read_corpus(file)), dev, test, seed).items():
        write_corpus(output / f"{name}.jsonl", documents)
        typer.echo(f"{name}: {len(documents)} documents")


def _format(name: str) -> "Format":
    from training.formats import FORMATS

    if name not in FORMATS:
        raise CorpusError(f"unknown format {name!r}; expected one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def _report(line: str, losses: "Losses", *, allow: bool) -> None:
    """Say what was done and lost; a loss that was not allowed is a failure."""
    typer.echo(line)
    for loss in losses.lines():
        typer.echo(loss, err=True)
    if losses.counts and not allow:
        raise CorpusError("something was not carried over; if that is well, say --allow-loss.")


def _print_details(columns: "Mapping[str, Statistics]") -> None:
    table = Table("", *columns, box=None)
    rows: list[tuple[str, Callable[[Statistics], object]]] = [
        ("documents", lambda s: s.documents),
        ("words", lambda s: s.words),
        ("median words", lambda s: s.median_words),
        ("longest", lambda s: s.longest_words),
        ("words per mention", lambda s: f"{s.words_per_mention:.1f}"),
        ("vocabulary of 50,000 words", lambda s: s.vocabulary),
        ("distinct-2 of 50,000 words", lambda s: f"{s.distinct_2:.3f}"),
        ("sentences in several documents", lambda s: s.shared_sentences),
        ("genres", lambda s: len(s.genres)),
    ]
    for title, value in rows:
        table.add_row(title, *(str(value(s)) for s in columns.values()))
    table.add_row()
    for kind in sorted({kind for s in columns.values() for kind in s.types}):
        cells = [f"{s.types[kind]} ({s.surfaces[kind]}, {s.once.get(kind, 0):.0%})" for s in columns.values()]
        table.add_row(kind, *cells)
    table.add_row()
    for label in sorted({label for s in columns.values() for label in s.labels}):
        shares = [
            f"{s.labels[label]} ({s.labels[label] / max(1, s.documents):.0%})" for s in columns.values()
        ]
        table.add_row(label, *shares)
    console = Console()
    console.print(table)
    console.print("Types: mentions (surfaces, share of them in one document only).", style="dim")


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
