"""A run's documents in parts that follow from the inputs and the options alone.

A part is what is scored, written and kept as one: a run that is cut off loses the parts that it
was at, and makes the same ones again. Whatever engine scores them, parts are numbered from 0 and
hold the rows of the inputs in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from pydantic import BaseModel, ConfigDict

from serving.api import parse_document
from serving.errors import ScoreError
from serving.results import Document, Problem
from serving.score.reading import Fields, Reading, Row
from serving.score.rows import rows
from serving.score.sources import Source, readable
from serving.score.streams import Cursor


class StdinEnd(BaseModel):
    """Where stdin ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cursor: Cursor
    is_broken: bool = False
    """Its last row stands for a rest that could not be read."""


class Place(BaseModel):
    """A place in the inputs of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: int = 0
    cursor: Cursor = Cursor()
    stdin: StdinEnd | None = None
    """If stdin is among the inputs before: no other may pass for it when the run goes on."""


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
    """How much of the input that `end` lies in has been gone through, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run reads, and how."""

    sources: Sequence[Source]
    fields: Fields
    max_row_bytes: int
    with_date: bool = True

    def reading(self, at: int, start: Cursor) -> Reading:
        """One of them, from a place on."""
        return Reading(self.sources[at], self.fields, self.max_row_bytes, start, self.with_date)


def read_parts(inputs: Inputs, cut: Cut, start: Start) -> Iterator[Part]:
    """The parts of a run from `start` on, read as they are asked for. Raises ScoreError where stdin
    is not what it was before `start`.
    """
    number, index, stdin = start.part, start.rows, start.place.stdin
    if stdin:
        check_stdin(inputs, start.place)
    items: list[Item] = []
    characters = 0
    for at in range(start.place.input, len(inputs.sources)):
        source, is_broken = inputs.sources[at], False
        cursor = start.place.cursor if at == start.place.input else Cursor()
        for row in rows(inputs.reading(at, cursor)):
            item = _item(readable(source.name), row, index)
            items.append(item)
            index += 1
            cursor, is_broken = row.after or cursor, row.after is None
            if source.is_stdin and is_broken:
                stdin = StdinEnd(cursor=cursor, is_broken=True)
            if isinstance(item.content, Document):
                characters += len(item.content.text) + len(item.content.title or "")
            if len(items) >= cut.rows or characters >= cut.characters:
                end = Place(input=at + 1) if is_broken else Place(input=at, cursor=cursor)
                share = 0.0 if is_broken else row.share
                yield Part(number, tuple(items), end.model_copy(update={"stdin": stdin}), share)
                number, items, characters = number + 1, [], 0
        if source.is_stdin:
            stdin = StdinEnd(cursor=cursor, is_broken=is_broken)
    if items:
        yield Part(number, tuple(items), Place(input=len(inputs.sources), stdin=stdin), 0.0)


def check_stdin(inputs: Inputs, place: Place) -> None:
    """Raise ScoreError unless stdin, if there is one, holds what it held before `place` and no more."""
    for at, source in enumerate(inputs.sources):
        if not source.is_stdin:
            continue
        end = place.stdin or StdinEnd(cursor=place.cursor if at == place.input else Cursor())
        more = list(islice(rows(inputs.reading(at, end.cursor)), 2))
        if [row.after for row in more] != [None] * end.is_broken:
            raise ScoreError(
                f"behind the {end.cursor.offset} bytes that were read before, stdin does not end as it did; "
                "give the same input again, or --restart to begin anew."
            )


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
