"""Memory of an engine that reads thousands of documents of all lengths: does it stay flat?

    python -m benchmarks.soak --documents 20000

reads documents of 50 to 5,000 words, made from the articles of a corpus, in calls of 1 to 32, and
prints what was resident after the first 2,000 and at the end, in megabytes, as JSON.
"""

import random
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from benchmarks.command import run_command
from benchmarks.memory import MIB, Memory
from benchmarks.work import of_length, shuffled
from serving.analyzer import Analyzer
from serving.errors import EmbargoError
from serving.model_folder import ModelFolder
from serving.results import Document
from serving.settings import RELEASED_MODEL, find_model
from training.corpus import AnnotatedDocument, read_corpus
from training.progress import progress_bar

SHORTEST, LONGEST = 50, 5_000
"""Words of a document; as many between 50 and 500 as between 500 and 5,000."""
_MOST_IN_A_CALL = 32


def soak(
    model: Annotated[str, typer.Option(help="Model folder.")] = str(RELEASED_MODEL),
    documents: Annotated[int, typer.Option(min=1, help="Documents to read.")] = 20_000,
    settled: Annotated[int, typer.Option(min=1, help="Documents after which memory should stay.")] = 2_000,
    articles: Annotated[Path, typer.Option(help="Corpus file to make them from.")] = Path(
        "datasets/sanctions-news/train.jsonl"
    ),
    threads: Annotated[int | None, typer.Option(min=1, help="Of the engine; default: all CPUs.")] = None,
    seed: Annotated[int, typer.Option(help="Which documents are made.")] = 13,
) -> None:
    """Read many documents and print what that takes, as JSON."""
    folder = ModelFolder.open(find_model(Path(model)))
    analyzer = Analyzer.load(folder, threads=threads)
    texts = list(read_corpus(articles))
    with progress_bar("soaking", documents) as progress:
        found = run(analyzer, texts, documents, settled=settled, seed=seed, progress=progress)
    sys.stdout.buffer.write(orjson.dumps({"model": folder.path.name, **found}) + b"\n")


def run(
    analyzer: Analyzer,
    articles: list[AnnotatedDocument],
    documents: int,
    *,
    settled: int,
    seed: int,
    progress: Callable[[int], object],
) -> dict[str, Any]:
    """Read documents made from `articles`; what was resident when, in megabytes.

    Raises EmbargoError if a document comes back without an answer, or if memory has no time to settle.
    """
    if documents <= settled:
        raise EmbargoError(
            f"{documents} documents leave nothing to compare with memory after {settled}; "
            "expected more: raise --documents, or lower --settled."
        )
    order = random.Random(seed)
    texts = shuffled(articles, order)
    made = (Document(of_length(texts, _words(order))) for _ in range(documents))
    loaded = Memory.of()
    after_settling = loaded
    began, tokens, read = time.perf_counter(), 0, 0
    while call := list(islice(made, order.randint(1, _MOST_IN_A_CALL))):
        for analysis in analyzer.analyze(call):
            if analysis.error:
                raise EmbargoError(f"a document was not read: {analysis.error.message}")
            assert analysis.coverage is not None  # what has no error has all else
            tokens += analysis.coverage.tokens
        if read < settled <= read + len(call):
            after_settling = Memory.of()
        read += len(call)
        progress(read)
    end = Memory.of()
    resident_mb = {
        "loaded": loaded.resident // MIB,
        f"after_{settled}": after_settling.resident // MIB,
        "end": end.resident // MIB,
        "peak": end.peak // MIB,
    }
    return {
        "documents": read,
        "tokens": tokens,
        "seconds": round(time.perf_counter() - began),
        "threads": analyzer.run.scheduler.threads,
        "resident_mb": resident_mb,
        "growth": round(resident_mb["end"] / resident_mb[f"after_{settled}"] - 1, 4),
    }


def _words(order: random.Random) -> int:
    return int(SHORTEST * (LONGEST / SHORTEST) ** order.random())


if __name__ == "__main__":
    run_command(soak)
