"""Corpora in every format, and runs over them in this process, for the tests of `embargo score`."""

import csv
import gzip
import io
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from serving.analyzer import Analyzer
from serving.model_folder import ModelFolder
from serving.results import Analysis, Document
from serving.score.job import ScoreJob
from serving.score.manifest import Ledger
from serving.score.parts import Part
from serving.score.run import Engine, Outcome, run_score
from serving.score.scoring import Counts, Scored, score_parts

PLACES = ("Vladivostok", "Port Sel", "Kuma 😀 Bay", "Ōsaka", "Mary's Reach", 'the "Old" Dock')


def documents(number: int) -> list[dict[str, Any]]:
    """Invented stories of varied length; no two are the same."""
    return [
        {
            "id": f"d{i}",
            "title": f"Tanker {i} listed" if i % 3 == 0 else None,
            "text": "\n".join(
                f"The tanker Ojo {i} with oil, and coal, in {PLACES[(i + j) % len(PLACES)]} on Monday."
                for j in range(1 + i % 4)
            ),
            "published_at": f"2026-01-{1 + i % 28:02}",
        }
        for i in range(number)
    ]


def jsonl(rows: Sequence[Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def as_csv(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def write_corpus(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """By suffix; a name without one becomes a folder of texts."""
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=7)
        return path
    if not path.suffix:
        for row in rows:
            file = path / row["id"][-1] / f"{row['id']}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(row["text"], encoding="utf-8", newline="")
        return path
    content = as_csv(rows, "\t" if ".tsv" in name else ",") if "sv" in name else jsonl(rows)
    if name.endswith(".gz"):
        content = gzip.compress(content)
    if name.endswith(".zst"):
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What a run wrote."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            content = reader.read()
    return [orjson.loads(line) for line in content.splitlines()]


def rejects(output: Path) -> list[dict[str, Any]]:
    return read_rows(output.with_name(f"{output.name}.rejects.jsonl"))


class Silent:
    """Nobody looks on; how many texts the engine read is counted."""

    def __init__(self) -> None:
        self.read = 0
        self.reached: list[int] = []
        self.total: int | None = None

    def begin(self, total_bytes: int | None, done_bytes: int, done: Counts) -> None:
        self.total = total_bytes

    def piece(self, analyses: Sequence[Analysis]) -> None:
        self.read += len(analyses)

    def part(self, counts: Counts, done_bytes: int) -> None:
        self.reached.append(done_bytes)


class Runs:
    """Runs of the tiny model."""

    def __init__(self, folder: ModelFolder, analyzer: Analyzer) -> None:
        self.folder = folder
        self.analyzer = analyzer
        self.view = Silent()

    def engine(self, job: ScoreJob) -> Engine:
        def analyze(given: list[Document]) -> list[Analysis]:
            analyses = self.analyzer.analyze(given, job.options, alone=True)
            self.view.piece(analyses)
            return analyses

        def run(parts: Iterator[Part]) -> Generator[Scored]:
            yield from score_parts(parts, analyze)

        return run

    def __call__(self, *inputs: Path | str, to: Path | str, **asked: Any) -> Outcome:
        job = ScoreJob(inputs=[str(given) for given in inputs], output=str(to), **asked)
        return run_score(job, self.folder, self.engine(job), self.view)


def cut_off(runs: Runs, *inputs: Path | str, to: Path, parts: int, **asked: Any) -> None:
    """A run that ends as if by a kill, once so many parts are done."""
    put = Ledger.put

    def counted(ledger: Ledger, *rest: Any) -> None:
        put(ledger, *rest)
        if len(ledger.receipts) == parts:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "put", counted)
        with pytest.raises(KeyboardInterrupt):
            runs(*inputs, to=to, **asked)
