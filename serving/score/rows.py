"""The rows of an input in each format, one at a time, with their places."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from serving.api import parse_json
from serving.errors import RequestError
from serving.results import Problem
from serving.score.sources import Source, open_file, readable
from serving.score.streams import BrokenInput, Cursor, Line, Lines, decompressed

_PARQUET_ROWS = 64
"""Rows that are made Python objects together."""
_PARQUET_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field of a row holds what; a field that a row lacks is empty."""

    text: str = "text"
    id: str = "id"
    title: str = "title"
    date: str = "published_at"

    def pick(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row under the names of the HTTP contract."""
        return {
            "id": row.get(self.id),
            "text": row.get(self.text),
            "title": row.get(self.title),
            "published_at": _date_text(row.get(self.date)),
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read: from where, with which fields, none longer than `limit` bytes."""

    source: Source
    fields: Fields
    limit: int
    start: Cursor


class Row(NamedTuple):
    """One row: what it holds under the contract's names, or why it cannot be read."""

    position: dict[str, int | str]
    after: Cursor | None
    """Where reading goes on; None where the rest of the input is lost."""
    content: Any
    share: float
    """How much of the input has been gone through, 0 to 1; 0 where nobody can know."""


def rows(reading: Reading) -> Iterator[Row]:
    """The rows of an input from `reading.start` on. What cannot be read becomes a Problem, the rest
    of a broken file one of its own.
    """
    readers: dict[str, Callable[[Reading], Iterator[Row]]] = {
        "jsonl": _json_rows,
        "csv": _csv_rows,
        "tsv": _csv_rows,
        "parquet": _parquet_rows,
        "txt": _text_rows,
        "folder": _text_rows,
    }
    after = reading.start
    try:
        for row in readers[reading.source.format](reading):
            yield row
            after = row.after or after
    except BrokenInput as error:
        yield Row(_position(reading.source, after), None, Problem(error.code, str(error)), 1.0)
    except OSError as error:
        problem = Problem("unreadable", f"The rest cannot be read ({error.strerror or error}).")
        yield Row(_position(reading.source, after), None, problem, 1.0)


def _position(source: Source, cursor: Cursor) -> dict[str, int | str]:
    if source.format == "parquet":
        return {"row": cursor.offset + 1}
    return {"line": cursor.line + 1, "offset": cursor.offset}


def _lines(reading: Reading) -> tuple[Lines, Callable[[], float]]:
    """The lines of a file, and what says how much of it has been gone through."""
    source = reading.source
    raw = source.open()
    size = 0 if source.is_stdin else os.fstat(raw.fileno()).st_size
    lines = Lines(
        decompressed(raw, source.compression),
        reading.limit,
        seekable=not (source.is_stdin or source.compression),
        hashed=source.is_stdin,
    )
    return lines, lambda: raw.tell() / size if size else 0.0


def _json_rows(reading: Reading) -> Iterator[Row]:
    lines, share = _lines(reading)
    lines.forward(reading.start)
    for line in lines:
        if line.content is not None and not line.content.strip():
            continue
        content: Any = _too_long(reading) if line.content is None else _parsed(line, reading.fields)
        yield Row({"line": line.number, "offset": line.offset}, lines.cursor(), content, share())


def _parsed(line: Line, fields: Fields) -> Any:
    assert line.content is not None
    content = line.content.removeprefix(b"\xef\xbb\xbf") if line.offset == 0 else line.content
    try:
        row = parse_json(content)
    except RequestError:
        return Problem("not_json", 'The line is not valid JSON in UTF-8; expected an object {"id", "text"}.')
    return fields.pick(row) if isinstance(row, dict) else row


class _BadRecord(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Records:
    """The lines that `csv` asks for, no more than the limit allows a record."""

    def __init__(self, lines: Lines, reading: Reading) -> None:
        self._lines = lines
        self._reading = reading
        self._bytes = 0
        self._quotes = 0
        self.first: Line | None = None

    def begin(self) -> None:
        """A new record."""
        self._bytes = self._quotes = 0
        self.first = None

    def __iter__(self) -> "_Records":
        return self

    def __next__(self) -> str:
        line = self._lines.next()
        if line is None:
            raise StopIteration
        self.first = self.first or line
        content = line.content
        self._bytes += len(content or b"")
        self._quotes += line.quotes if content is None else content.count(b'"')
        if content is None or self._bytes > self._reading.limit:
            self.skip()
            raise _BadRecord(_too_long(self._reading))
        try:
            return content.decode("utf-8-sig" if line.offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            self.skip()
            raise _BadRecord(_not_utf8(error)) from error

    def skip(self) -> None:
        """To the end of the record: a field in quotes may go on over many lines."""
        while self._quotes % 2 and (line := self._lines.next()):
            self._quotes += line.quotes if line.content is None else line.content.count(b'"')


def _csv_rows(reading: Reading) -> Iterator[Row]:
    csv.field_size_limit(max(reading.limit, csv.field_size_limit()))
    lines, share = _lines(reading)
    records = _Records(lines, reading)
    # Strict: a quotation mark out of place is a reject, not a guess.
    reader = csv.reader(records, delimiter="\t" if reading.source.format == "tsv" else ",", strict=True)
    header = _csv_header(reader, reading.fields)
    lines.forward(reading.start)
    while True:
        records.begin()
        content: Any
        try:
            record = next(reader)
        except StopIteration:
            return
        except _BadRecord as error:
            content = error.problem
        except csv.Error as error:
            records.skip()
            content = Problem("bad_csv", f"The record is not CSV ({error}).")
        else:
            if not record:
                continue  # an empty line
            content = _named(record, header, reading.fields)
        assert records.first is not None
        position: dict[str, int | str] = {"line": records.first.number, "offset": records.first.offset}
        yield Row(position, lines.cursor(), content, share())


def _csv_header(reader: Iterator[list[str]], fields: Fields) -> list[str]:
    try:
        header = next(reader, [])
    except (_BadRecord, csv.Error) as error:
        raise BrokenInput("bad_csv", "The first line is no header; expected names of columns.") from error
    if header:
        _check_text_field(header, fields)
    return header


def _check_text_field(columns: list[str], fields: Fields) -> None:
    if fields.text not in columns:
        raise BrokenInput(
            "no_such_field",
            f"It has no column {fields.text!r}; its columns are {', '.join(columns)[:500]}. Name the one "
            "with the text by --text-field.",
        )


def _named(record: list[str], header: list[str], fields: Fields) -> dict[str, Any] | Problem:
    if len(record) != len(header):
        return Problem(
            "wrong_columns", f"The record has {len(record)} fields; expected {len(header)}, as the header."
        )
    row = fields.pick(dict(zip(header, record, strict=True)))
    # CSV cannot tell an empty cell from none; only an empty text is an error of its own.
    return {name: value if name == "text" else value or None for name, value in row.items()}


def _parquet_rows(reading: Reading) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    open_file(reading.source.path).close()
    try:
        # Column chunks are read a buffer at a time, not whole row groups.
        with pyarrow.parquet.ParquetFile(
            reading.source.path, buffer_size=_PARQUET_BUFFER, pre_buffer=False
        ) as file:
            names = file.schema_arrow.names
            _check_text_field(names, reading.fields)
            wanted = reading.fields
            columns = [c for c in dict.fromkeys((wanted.id, wanted.text, wanted.title, wanted.date))
                       if c in names]  # fmt: skip
            row = 0
            for group in range(file.num_row_groups):
                end = row + file.metadata.row_group(group).num_rows
                if end <= reading.start.offset:
                    row = end
                    continue
                for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=columns):
                    for number in range(batch.num_rows):
                        if row >= reading.start.offset:
                            content = _cells(batch.slice(number, 1), reading)
                            after = Cursor(offset=row + 1)
                            share = after.offset / file.metadata.num_rows
                            yield Row({"row": row + 1}, after, content, share)
                        row += 1
    except pyarrow.ArrowException as error:
        raise BrokenInput("broken_parquet", f"The rest is no Parquet ({str(error)[:500]}).") from error


def _cells(batch: Any, reading: Reading) -> dict[str, Any] | Problem:
    """A batch of one row. *Type:* pyarrow.RecordBatch."""
    if batch.nbytes > reading.limit:
        return _too_long(reading)
    try:
        return reading.fields.pick(batch.to_pylist()[0])
    except UnicodeDecodeError as error:
        return _not_utf8(error)


def _text_rows(reading: Reading) -> Iterator[Row]:
    """A file is a document; its name is its id."""
    files = sum(1 for _ in reading.source.files())
    for number, (name, path) in enumerate(reading.source.files(), start=1):
        if number > reading.start.offset:
            content = _text(readable(name), path, reading)
            yield Row({"file": readable(str(path))}, Cursor(offset=number), content, number / files)


def _text(name: str, path: Path, reading: Reading) -> dict[str, Any] | Problem:
    try:
        with open_file(path) as file:
            content = file.read(reading.limit + 1)
        if len(content) > reading.limit:
            return _too_long(reading)
        return {"id": name, "text": content.decode("utf-8")}
    except BrokenInput as error:
        return Problem(error.code, str(error))
    except OSError as error:
        return Problem("unreadable", f"The file cannot be read ({error.strerror}).")
    except UnicodeDecodeError as error:
        return _not_utf8(error)


def _too_long(reading: Reading) -> Problem:
    return Problem(
        "row_too_long",
        f"The row has more than {reading.limit} bytes and was passed over; split it, or raise "
        "--max-row-bytes.",
    )


def _not_utf8(error: UnicodeDecodeError) -> Problem:
    return Problem("not_utf8", f"It is not UTF-8 ({error.reason}); convert it, for example with iconv.")


def _date_text(value: Any) -> Any:
    """Dates and numbers as text; the model does not read them."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value
