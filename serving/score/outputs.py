"""What a run writes: results as lines or Parquet, in parts, and parts put together in order.

Nothing that is written depends on anything but the results: no time, no name, no thread.
"""

import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import orjson

from serving import api
from serving.errors import ScoreError
from serving.results import Analysis, OffsetUnit, Problem
from serving.score import ftm
from serving.score.extra import needs_corpora_extra
from serving.score.parts import Item
from serving.score.schema import rows_schema, spans_schema
from serving.score.scoring import Reject, Scored

if TYPE_CHECKING:
    import pyarrow

OutputFormat = Literal[
    "ftm.jsonl", "ftm.jsonl.gz", "ftm.jsonl.zst", "jsonl", "jsonl.gz", "jsonl.zst", "parquet"
]
"""By suffix, the longer one first."""
Kind = Literal["rows", "spans", "rejects"]

_SCHEMAS: dict[Kind, "Callable[[], pyarrow.Schema]"] = {"rows": rows_schema, "spans": spans_schema}
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class RowStyle:
    """What a row holds beside the result."""

    model_sha256: str
    with_text: bool = False
    with_date: bool = False
    text_ids: bool = False
    """Integers as digits, where a column has one type."""
    as_ftm: bool = False
    """FollowTheMoney entities, some a document, in the place of a row a document."""
    offset_unit: OffsetUnit = "codepoint"
    """That of the results."""


def output_format(name: str) -> OutputFormat:
    """By suffix. Raises ScoreError if it is none of ours, or needs a library that is not there."""
    for known in get_args(OutputFormat):
        if name.lower().endswith(f".{known}"):
            return checked_format(known)
    raise ScoreError(
        f"the suffix of {name} says no format that can be written; expected one of "
        f"{', '.join('.' + known for known in get_args(OutputFormat))}."
    )


def file_format(name: str, asked: str | None) -> OutputFormat:
    """Of a file by its suffix; `asked` may say that lines hold FollowTheMoney entities. Raises ScoreError."""
    form = output_format(name)
    if asked == "ftm" and form != "parquet":
        return checked_format(form if is_ftm(form) else f"ftm.{form}")
    if asked not in (None, form):
        raise ScoreError(f"{name} and --format {asked} say different formats; leave --format out.")
    return form


def is_ftm(form: OutputFormat) -> bool:
    """Its lines are FollowTheMoney entities."""
    return form.startswith("ftm.")


def checked_format(name: str) -> OutputFormat:
    """A format by its name; `ftm` is short for `ftm.jsonl`. Raises ScoreError."""
    formats: dict[str, OutputFormat] = {known: known for known in get_args(OutputFormat)}
    formats["ftm"] = "ftm.jsonl"
    if name not in formats:
        raise ScoreError(f"unknown output format {name!r}; expected one of {', '.join(formats)}.")
    if name == "parquet":
        needs_corpora_extra("pyarrow", "Parquet")
    if name.endswith(".zst"):
        needs_corpora_extra("zstandard", ".zst")
    return formats[name]


def row_lines(scored: Scored, style: RowStyle) -> bytes:
    """The results of a part as JSON lines: those of the HTTP service with the model's hash, or entities."""
    rows = _entities if style.as_ftm else _rows
    return _lines(
        row for found in scored.results if not isinstance(found, Reject) for row in rows(*found, style)
    )


def span_lines(scored: Scored, *, text_ids: bool) -> bytes:
    """The entities of a part, one a line."""
    return _lines(
        {
            "id": str(analysis.id) if text_ids else analysis.id,
            "field": entity.field,
            "type": entity.type,
            "start": entity.start,
            "end": entity.end,
            "text": entity.text,
            "score": entity.score,
        }
        for found in scored.results
        if not isinstance(found, Reject)
        for analysis in found[1:]
        for entity in analysis.entities or ()
    )


def reject_lines(scored: Scored) -> bytes:
    """The rows of a part that have no result: which input, where in it, and why."""
    return _lines(
        {
            "input": found.item.input,
            "position": found.item.position,
            "id": found.item.id,
            "reason": found.problem.code,
            "message": found.problem.message,
        }
        for found in scored.results
        if isinstance(found, Reject)
    )


def encode(lines: bytes, kind: Kind, form: OutputFormat) -> bytes:
    """JSON lines in the format of a file; such files one after the other are one, but for Parquet."""
    if form.endswith(".gz"):
        return gzip.compress(lines, mtime=0)
    if form.endswith(".zst"):
        import zstandard

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(lines)
    return _parquet(lines, kind) if form == "parquet" else lines


def merge(parts: Sequence[Path], target: Path, kind: Kind, form: OutputFormat) -> None:
    """Write one file of many, a part in memory at a time; it is there as a whole or not at all."""
    with written_whole(target) as file:
        if form == "parquet":
            _merge_parquet(parts, file, kind)
            return
        if not parts:
            file.write(encode(b"", kind, form))
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file, 1 << 20)


@contextmanager
def written_whole(target: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name that takes its own once it is on the disk."""
    temporary = temporary_of(target)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk its room is needed
        raise
    sync_folder(target.parent)


def temporary_of(target: Path) -> Path:
    """The name of a file that is not whole yet."""
    return target.with_name(f"{target.name}.tmp")


def sync_folder(folder: Path) -> None:
    """Make renames in it last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rows(item: Item, analysis: Analysis, style: RowStyle) -> Iterator[dict[str, Any]]:
    row = {**api.result_json(analysis), "model_sha256": style.model_sha256}
    if style.text_ids:
        row["id"] = str(analysis.id)
    if style.with_text:
        assert not isinstance(item.content, Problem)
        row |= {"title": item.content.title, "text": item.content.text}
    if style.with_text or style.with_date:
        row["published_at"] = item.published_at
    yield row


def _entities(item: Item, analysis: Analysis, style: RowStyle) -> Iterator[dict[str, Any]]:
    assert not isinstance(item.content, Problem)
    return ftm.entities(
        item.content,
        item.published_at,
        analysis,
        model_sha256=style.model_sha256,
        with_text=style.with_text,
        offset_unit=style.offset_unit,
    )


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _parquet(lines: bytes, kind: Kind) -> bytes:
    import pyarrow.parquet

    written = io.BytesIO()
    pyarrow.parquet.write_table(_table(lines, kind), written, compression="zstd")
    return written.getvalue()


def _table(lines: bytes, kind: Kind) -> "pyarrow.Table":
    """Arrow reads the lines itself: many times faster than a list of objects, and without the GIL."""
    import pyarrow.json

    schema = _SCHEMAS[kind]()
    if not lines:
        return schema.empty_table()
    return pyarrow.json.read_json(
        io.BytesIO(lines),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )


def _merge_parquet(parts: Sequence[Path], file: BinaryIO, kind: Kind) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(file, _SCHEMAS[kind](), compression="zstd") as writer:
        for part in parts:
            table = pyarrow.parquet.read_table(part, use_threads=False)
            if table.num_rows:
                writer.write_table(table)
