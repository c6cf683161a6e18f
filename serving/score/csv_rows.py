"""Rows of CSV: a record may go on over many lines, and still none is longer than the limit."""

import csv
from collections.abc import Iterator
from typing import Any

from serving.results import Problem
from serving.score.reading import Fields, Reading, Row, check_text_field, lines_of, not_utf8, too_long
from serving.score.streams import BrokenInput, Line, Lines


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
            raise _BadRecord(too_long(self._reading))
        try:
            return content.decode("utf-8-sig" if line.offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            self.skip()
            raise _BadRecord(not_utf8(error)) from error

    def skip(self) -> None:
        """To the end of the record: a field in quotes may go on over many lines."""
        while self._quotes % 2 and (line := self._lines.next()):
            self._quotes += line.quotes if line.content is None else line.content.count(b'"')


def csv_rows(reading: Reading) -> Iterator[Row]:
    """The records behind the header. Raises BrokenInput."""
    csv.field_size_limit(max(reading.limit, csv.field_size_limit()))
    with lines_of(reading) as (lines, share):
        records = _Records(lines, reading)
        # Strict: a quotation mark out of place is a reject, not a guess.
        reader = csv.reader(records, delimiter="\t" if reading.source.format == "tsv" else ",", strict=True)
        header = _header(reader, reading.fields)
        lines.forward(reading.start)
        while (content := _record(reader, records, header, reading.fields)) is not None:
            if records.first and content:
                position: dict[str, int | str] = {
                    "line": records.first.number,
                    "offset": records.first.offset,
                }
                yield Row(position, lines.cursor(), content, share())


def _record(
    reader: Iterator[list[str]], records: _Records, header: list[str], fields: Fields
) -> dict[str, Any] | Problem | None:
    """The next record; empty if its line is, None at the end."""
    records.begin()
    try:
        record = next(reader)
    except StopIteration:
        return None
    except _BadRecord as error:
        return error.problem
    except csv.Error as error:
        records.skip()
        return Problem("bad_csv", f"The record is not CSV ({error}).")
    return _named(record, header, fields) if record else {}


def _header(reader: Iterator[list[str]], fields: Fields) -> list[str]:
    try:
        header = next(reader, [])
    except (_BadRecord, csv.Error) as error:
        raise BrokenInput("bad_csv", "The first line is no header; expected names of columns.") from error
    if header:
        check_text_field(header, fields)
    return header


def _named(record: list[str], header: list[str], fields: Fields) -> dict[str, Any] | Problem:
    if len(record) != len(header):
        return Problem(
            "wrong_columns", f"The record has {len(record)} fields; expected {len(header)}, as the header."
        )
    row = fields.pick(dict(zip(header, record, strict=True)))
    # CSV cannot tell an empty cell from none; only an empty text is an error of its own.
    return {name: value if name == "text" else value or None for name, value in row.items()}
