"""What `embargo score --with-text` wrote, read again: documents with what the model found in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serving.errors import CorpusError
from serving.results import Document, Entity, Label
from serving.score.extra import needs_corpora_extra
from serving.score.streams import BrokenInput, decompressed

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class ScoredDocument:
    """One row of a scored corpus; offsets are code points."""

    document: Document
    published_at: str | None
    labels: tuple[Label, ...] | None
    """None where the run asked for none."""
    entities: tuple[Entity, ...]
    model_sha256: str
    source: str
    """The file that the row stands in."""


def read_scored(path: Path) -> Iterator[ScoredDocument]:
    """The rows of a file or of a folder of parts, one in memory at a time.

    Raises CorpusError at a row without its text, or whose spans are not at their offsets.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if not files:
        raise CorpusError(f"{path} holds no file; expected what `embargo score --with-text` wrote.")
    for file in files:
        for number, row in enumerate(_rows(file), start=1):
            yield _document(row, f"{file}:{number}", path.name)


def _rows(path: Path) -> Iterator[Any]:
    if not path.name.endswith(SUFFIXES):
        raise CorpusError(f"{path} is no scored corpus by its name; expected {', '.join(SUFFIXES)}.")
    try:
        yield from _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    except (OSError, BrokenInput) as error:
        raise CorpusError(f"{path} cannot be read ({error}); expected what `embargo score` wrote.") from error


def _json_rows(path: Path) -> Iterator[Any]:
    compression = path.suffix[1:] if path.suffix in (".gz", ".zst") else ""
    if compression == "zst":
        needs_corpora_extra("zstandard", ".zst")
    with path.open("rb") as file:
        for number, line in enumerate(decompressed(file, compression), start=1):
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise CorpusError(
                    f"{path}:{number}: broken JSON ({error}); score the corpus again."
                ) from error


def _parquet_rows(path: Path) -> Iterator[Any]:
    needs_corpora_extra("pyarrow", "Parquet")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise CorpusError(f"{path} is no Parquet file ({error}); score the corpus again.") from error


def _document(row: Any, where: str, source: str) -> ScoredDocument:
    try:
        document = Document(row["text"], row["title"] or None, row["id"])
        if document.text is None:
            raise KeyError("text")
        labels = row["labels"]
        scored = ScoredDocument(
            document=document,
            published_at=row["published_at"],
            labels=None
            if labels is None
            else tuple(Label(given["label"], given["axis"], given["score"]) for given in labels),
            entities=tuple(Entity(**entity) for entity in row["entities"] or ()),
            model_sha256=row["model_sha256"],
            source=source,
        )
    except (KeyError, TypeError) as error:
        raise CorpusError(
            f"{where}: not a row with its text (got {_keys(row)}); score the corpus with --with-text."
        ) from error
    for entity in scored.entities:
        text = document.text if entity.field == "text" else document.title or ""
        if text[entity.start : entity.end] != entity.text:
            raise CorpusError(
                f"{where}: {entity.field}[{entity.start}:{entity.end}] is "
                f"{text[entity.start : entity.end]!r}, the row says {entity.text!r}; score the corpus with "
                "--offset-unit codepoint."
            )
    return scored


def _keys(row: Any) -> str:
    return ", ".join(row) if isinstance(row, Mapping) else type(row).__name__
