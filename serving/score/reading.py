"""What readers of all formats share: which fields are wanted, what a row is, what can be wrong with it."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from serving.results import Problem
from serving.score.sources import Source, open_file
from serving.score.streams import BrokenInput, Cursor, Lines, decompressed


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
    with_date: bool = True
    """Whether dates will be written; a column of Parquet that is not needed is not decoded."""


class Row(NamedTuple):
    """One row: what it holds under the contract's names, or why it cannot be read."""

    position: dict[str, int | str]
    after: Cursor | None
    """Where reading goes on; None where the rest of the input is lost."""
    content: Any
    share: float
    """How much of the input has been gone through, 0 to 1; 0 where nobody can know."""


@contextmanager
def lines_of(reading: Reading) -> Iterator[tuple[Lines, Callable[[], float]]]:
    """The lines of a file from its beginning, and what says how much of it has been gone through."""
    source = reading.source
    with nullcontext(sys.stdin.buffer) if source.is_stdin else open_file(source.path) as raw:
        size = 0 if source.is_stdin else os.fstat(raw.fileno()).st_size
        lines = Lines(
            decompressed(raw, source.compression),
            reading.limit,
            seekable=not (source.is_stdin or source.compression),
            hashed=source.is_stdin,
        )
        yield lines, lambda: raw.tell() / size if size else 0.0


def check_text_field(columns: list[str], fields: Fields) -> None:
    """Raise BrokenInput if a table has no column for the text."""
    if fields.text not in columns:
        raise BrokenInput(
            "no_such_field",
            f"It has no column {fields.text!r}; its columns are {', '.join(columns)[:500]}. Name the one "
            "with the text by --text-field.",
        )


def too_long(reading: Reading) -> Problem:
    """A row that was not loaded."""
    return Problem(
        "row_too_long",
        f"The row has more than {reading.limit} bytes and was passed over; split it, or raise "
        "--max-row-bytes.",
    )


def not_utf8(error: UnicodeDecodeError) -> Problem:
    """Bytes that are no text."""
    return Problem("not_utf8", f"It is not UTF-8 ({error.reason}); convert it, for example with iconv.")


def _date_text(value: Any) -> Any:
    """Dates and numbers as text; the model does not read them."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value
