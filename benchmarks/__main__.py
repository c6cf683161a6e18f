"""`make bench`: Embargo and its peers side by side, in one interleaved run."""

import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.controller import DEV, Setting, run
from benchmarks.line_up import line_up
from benchmarks.plots import plot
from benchmarks.prepare import checkpoint_folder, plain_graph, spacy_pipeline, train_spacy
from benchmarks.report import Reference, report, save, table
from benchmarks.work import FULL, QUICK, Slice, slices
from serving.api import model_identity
from serving.errors import CorpusError
from serving.forward import available_cpus
from serving.model_folder import ModelFolder
from serving.settings import RELEASED_MODEL, find_model
from training.corpus import AnnotatedDocument, Split, split_file
from training.inputs import BASELINES, BUILD, sound_documents, words
from training.schema import Schema, schema_of_model

BENCH = BUILD / "bench"
REAL = Path("../shared/real")
OWN_CORPUS = Path("datasets/sanctions-news")
_FILE_WIDTH = 140
"""Columns of the table where it is no terminal's: a file has no width of its own, and 80 are too few."""
_STEPS, _QUICK_STEPS = 6000, 400
"""Most batches that spaCy trains on: as `embargo baselines` has it, and to see that all runs."""


def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="Model folders of ours; peers read the first one's checkpoint.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Corpus to read: dev for accuracy, dev and train for speed.")
    ] = None,
    train_on: Annotated[
        list[str] | None, typer.Option(help="Corpora that spaCy is trained on, if it is not yet.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Budget of every system.")] = None,
    quick: Annotated[bool, typer.Option(help="Tiny slices, two rounds: does everything run?")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Peers whose names hold one of these.")] = None,
    seed: Annotated[int, typer.Option(help="Which articles are drawn.")] = 13,
    output: Annotated[Path, typer.Option("-o", help="Folder of the report.")] = BENCH,
) -> None:
    """Read the same documents with the same checkpoint in every system, by turns; table, JSON, plots."""
    console = Console(stderr=True)
    say = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    size = QUICK if quick else FULL
    folders = [find_model(Path(name)) for name in words(model or [str(RELEASED_MODEL)])]
    opened = ModelFolder.open(folders[0])
    schema = schema_of_model(opened.config)
    corpus = data or (REAL if REAL.is_dir() else OWN_CORPUS)
    dev = _split(corpus, "dev", schema)
    made = checkpoint_folder(opened, output)
    setting = Setting(
        threads=threads or available_cpus(),
        slices=slices([*dev, *_split(corpus, "train", schema)], size, seed),
        dev=Slice(DEV, "mixed", [[document.document() for document in dev[: size.dev]]], 0),
        graph=plain_graph(opened, made),
        calibration=OWN_CORPUS / "train.jsonl",
        scratch=made,
        venvs=output / "venvs",
        logs=output / "logs",
    )
    baselines = output / "baselines-quick" if quick else BASELINES
    train = partial(
        train_spacy,
        baselines,
        words(train_on or [str(path) for path in dict.fromkeys((OWN_CORPUS, corpus))]),
        _QUICK_STEPS if quick else _STEPS,
        setting.logs / "baselines.log",
        say,
    )
    entries = [
        entry
        for entry in line_up(folders, spacy_pipeline(baselines), train)
        if entry.is_own or not only or any(word in entry.name for word in only)
    ]
    result = run(entries, setting, say)
    header = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "threads": setting.threads,
        "model": model_identity(opened),
        "corpus": str(corpus),
        "dev_documents": len(setting.dev.documents),
        "seed": seed,
        "quick": quick,
    }
    reference = Reference(opened, dev[: size.dev], schema, setting.slices, header)
    found = report(result, reference)
    save(found, output)
    plot(found, output)
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table(found))
    typer.echo(f"Wrote {output}/report.json, table.md, length.png and accuracy.png.")


def _split(corpus: Path, split: Split, schema: Schema) -> list[AnnotatedDocument]:
    file = split_file(corpus, split)
    if file is None:
        raise CorpusError(f"{corpus} has no {split}.jsonl; expected a corpus folder with dev and train.")
    return sound_documents(file, schema)


def _cpu() -> str:
    """The processor's name, and which of the instructions that matter here it has."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "?")
    flags = set(info.split())
    having = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    return f"{name} ({', '.join(having)})"


if __name__ == "__main__":
    run_command(bench)
