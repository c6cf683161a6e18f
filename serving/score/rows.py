"""The rows of an input in each format, one at a time, with their places."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from serving.api import parse_json
from serving.errors import RequestError, ScoreError
from serving.results import Problem
from serving.score.csv_rows import csv_rows
from serving.score.parquet_rows import parquet_rows
from serving.score.reading import Reading, Row, lines_of, not_utf8, too_long
from serving.score.sources import Source, open_file, readable
from serving.score.streams import BrokenInput, Cursor, Line


def rows(reading: Reading) -> Iterator[Row]:
    """The rows of an input from `reading.start` on. What cannot be read becomes a Problem, the rest
    of a broken file one of its own.
    """
    readers: dict[str, Callable[[Reading], Iterator[Row]]] = {
        "jsonl": _json_rows,
        "csv": csv_rows,
        "tsv": csv_rows,
        "parquet": parquet_rows,
        "txt": _text_rows,
        "folder": _text_rows,
    }
    after = reading.start
    try:
        for row in readers[reading.source.format](reading):
            yield row
            after = row.after or after
    except BrokenInput as error:
        if error.code == "unreadable":
            _refuse_if_it_was_sound(reading.source, reading.source.name, str(error))
        yield Row(_position(reading.source, after), None, Problem(error.code, str(error)), 1.0)
    except OSError as error:
        reason = f"The rest cannot be read ({error.strerror or error})."
        _refuse_if_it_was_sound(reading.source, reading.source.name, reason)
        yield Row(_position(reading.source, after), None, Problem("unreadable", reason), 1.0)


def _refuse_if_it_was_sound(source: Source, name: str, reason: str) -> None:
    """A disk or a network that fails for an hour must not make rejects for good."""
    if source.unreadable is not None and readable(name) not in source.unreadable:
        raise ScoreError(
            f"{readable(name)} could be read when the run began, and now it cannot: {reason} Once it can, "
            "give the same command again, without --restart."
        )


def _position(source: Source, cursor: Cursor) -> dict[str, int | str]:
    if source.format == "parquet":
        return {"row": cursor.offset + 1}
    return {"line": cursor.line + 1, "offset": cursor.offset}


def _json_rows(reading: Reading) -> Iterator[Row]:
    with lines_of(reading) as (lines, share):
        lines.forward(reading.start)
        for line in lines:
            if line.content is not None and not line.content.strip():
                continue
            content = _parsed(line, reading)
            yield Row({"line": line.number, "offset": line.offset}, lines.cursor(), content, share())


def _parsed(line: Line, reading: Reading) -> Any:
    if line.content is None:
        return too_long(reading)
    content = line.content.removeprefix(b"\xef\xbb\xbf") if line.offset == 0 else line.content
    try:
        row = parse_json(content)
    except RequestError:
        return Problem("not_json", 'The line is not valid JSON in UTF-8; expected an object {"id", "text"}.')
    return reading.fields.pick(row) if isinstance(row, dict) else row


def _text_rows(reading: Reading) -> Iterator[Row]:
    """A file is a document; its name is its id."""
    files = sum(1 for _ in reading.source.files())
    for number, (name, path) in enumerate(reading.source.files(), start=1):
        if number > reading.start.offset:
            content = _text(name, path, reading)
            yield Row({"file": readable(str(path))}, Cursor(offset=number), content, number / files)


def _text(name: str, path: Path, reading: Reading) -> dict[str, Any] | Problem:
    try:
        with open_file(path) as file:
            content = file.read(reading.limit + 1)
        if len(content) > reading.limit:
            return too_long(reading)
        return {"id": readable(name), "text": content.decode("utf-8")}
    except (BrokenInput, OSError) as error:
        reason = str(error) if isinstance(error, BrokenInput) else f"It cannot be read ({error.strerror})."
        _refuse_if_it_was_sound(reading.source, name, reason)
        return Problem("unreadable", reason)
    except UnicodeDecodeError as error:
        return not_utf8(error)
