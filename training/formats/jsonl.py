"""Reading and writing JSON with the error that names file and line."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from serving.errors import CorpusError


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a JSON Lines file (.gz too), with "file:line" for messages."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", _object(orjson.loads(line), f"{path}:{number}")
    except orjson.JSONDecodeError as error:
        raise CorpusError(f"{path}:{number}: broken JSON ({error}); expected one object a line.") from error
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); expected a JSON Lines file.") from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines."""
    with path.open("wb") as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in rows)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorpusError(f"{where}: got a {type(value).__name__}, expected an object.")
    return value


def text_of(row: dict[str, Any], where: str) -> str:
    """The text of a row. Raises CorpusError if it has none."""
    text = row.get("text")
    if not isinstance(text, str):
        raise CorpusError(f'{where}: no string under "text"; its keys are {", ".join(map(repr, row))}.')
    return text
