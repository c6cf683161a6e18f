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
        self._mark = lines.mark()
        self._behind = bytearray()
        """What was taken since `_mark`, the end of the first line."""
        self._never_ends = False

    def begin(self) -> None:
        """A new record."""
        self._bytes = self._quotes = 0
        self.first = None
        self._behind.clear()
        self._never_ends = False

    def __iter__(self) -> "_Records":
        return self

    def __next__(self) -> str:
        line = self._lines.next()
        if line is None:
            self._never_ends = True  # if it has begun
            raise StopIteration
        content = line.content
        if self.first:
            self._behind += content or b""
        else:
            self.first, self._mark = line, self._lines.mark()
        self._bytes += len(content or b"")
        self._quotes += line.quotes if content is None else content.count(b'"')
        if content is None or self._bytes > self._reading.limit:
            self._skip_any_length()
            raise _BadRecord(too_long(self._reading))
        try:
            return content.decode("utf-8-sig" if line.offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            self.skip()
            raise _BadRecord(not_utf8(error)) from error

    def skip(self) -> None:
        """To the end of the record: a field in quotes may go on over many lines.

        Where none comes within the limit, a mark is missing or one too many, and only the first line is lost.
        """
        while self._quotes % 2 and not self._never_ends:
            content = self._lines.take(self._reading.limit - self._bytes)
            self._bytes += len(content)
            self._quotes += content.count(b'"')
            self._behind += content
            self._never_ends = not content or self._bytes > self._reading.limit
        if self._never_ends:
            self._lines.put_back(self._mark, bytes(self._behind))

    def _skip_any_length(self) -> None:
        while self._quotes % 2 and (line := self._lines.next()):
            self._quotes += line.quotes if line.content is None else line.content.count(b'"')


def csv_rows(reading: Reading) -> Iterator[Row]:
    """The records behind the header. Raises BrokenInput."""
    csv.field_size_limit(max(reading.limit, csv.field_size_limit()))
    with lines_of(reading) as (lines, share):
        records = _Records(lines, reading)
        # Strict: a quotation mark out of place is a reject, not a guess.
        reader = csv.reader(records, delimiter="\t" if reading.source.format == "tsv" else ",", strict=True)
        header = _header(reader, records, reading.fields)
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


def _header(reader: Iterator[list[str]], records: _Records, fields: Fields) -> list[str]:
    """The first record that is not empty; empty if there is none."""
    try:
        for header in reader:
            if header:
                check_text_field(header, fields)
                return header
            records.begin()
    except (_BadRecord, csv.Error) as error:
        raise BrokenInput("bad_csv", "The first line is no header; expected names of columns.") from error
    return []


def _named(record: list[str], header: list[str], fields: Fields) -> dict[str, Any] | Problem:
    if len(record) != len(header):
        return Problem(
            "wrong_columns", f"The record has {len(record)} fields; expected {len(header)}, as the header."
        )
    row = fields.pick(dict(zip(header, record, strict=True)))
    # CSV cannot tell an empty cell from none; only an empty text is an error of its own.
    return {name: value if name == "text" else value or None for name, value in row.items()}
