"""A run's documents in parts that follow from the inputs and the options alone.

A part is what is scored, written and kept as one: a run that is cut off loses the parts that it
was at, and makes the same ones again. Whatever engine scores them, parts are numbered from 0 and
hold the rows of the inputs in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from serving.api import parse_document
from serving.results import Document, Problem
from serving.score.reading import Fields, Reading, Row
from serving.score.rows import rows
from serving.score.sources import Source, readable
from serving.score.streams import Cursor


class Place(BaseModel):
    """A place in the inputs of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: int = 0
    cursor: Cursor = Cursor()


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins, or goes on: at a part, after so many rows."""

    part: int = 0
    rows: int = 0
    place: Place = field(default_factory=Place)


@dataclass(frozen=True, slots=True)
class Cut:
    """When a part is full: it holds so many rows, or so many characters."""

    rows: int = 1024
    characters: int = 4_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One row of an input: a document, or why there is none."""

    input: str
    position: Mapping[str, int | str]
    id: str | int | None
    content: Document | Problem
    published_at: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows in a row, across the ends of inputs."""

    number: int
    items: tuple[Item, ...]
    end: Place
    share: float
    """How much of the input that its last row is of has been gone through, 0 to 1."""


def read_parts(
    sources: Sequence[Source],
    fields: Fields,
    cut: Cut,
    max_row_bytes: int,
    start: Start,
    *,
    with_date: bool = True,
) -> Iterator[Part]:
    """The parts of a run from `start` on, read as they are asked for."""
    number, index = start.part, start.rows
    items: list[Item] = []
    characters = 0
    for at in range(start.place.input, len(sources)):
        source = sources[at]
        cursor = start.place.cursor if at == start.place.input else Cursor()
        for row in rows(Reading(source, fields, max_row_bytes, cursor, with_date)):
            item = _item(readable(source.name), row, index)
            items.append(item)
            index += 1
            if isinstance(item.content, Document):
                characters += len(item.content.text) + len(item.content.title or "")
            if len(items) >= cut.rows or characters >= cut.characters:
                end = Place(input=at, cursor=row.after) if row.after else Place(input=at + 1)
                yield Part(number, tuple(items), end, row.share)
                number, items, characters = number + 1, [], 0
    if items:
        yield Part(number, tuple(items), Place(input=len(sources)), 0.0)


def _item(source: str, row: Row, index: int) -> Item:
    """`index` counts the rows of a run; it is the id of a document that has none."""
    if isinstance(row.content, Problem):
        return Item(source, row.position, None, row.content)
    parsed = parse_document(row.content, index)
    if not isinstance(parsed, Document):
        id_, error = parsed
        return Item(source, row.position, id_, Problem(error.code, error.message))
    published_at: str | None = row.content.get("published_at")
    try:
        (published_at or "").encode("utf-8")
    except UnicodeEncodeError as error:
        problem = Problem(
            "lone_surrogate",
            f"The published_at holds a lone surrogate at character {error.start}; send valid Unicode.",
        )
        return Item(source, row.position, parsed.id, problem)
    return Item(source, row.position, parsed.id, parsed, published_at)
