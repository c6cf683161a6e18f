"""Annotated documents, and corpora of them on disk (JSON Lines, one document a line)."""

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from serving.errors import CorpusError
from serving.results import Document

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start:end` (code points) of a field, and the span's type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class AnnotatedDocument:
    """One document with its gold spans and labels."""

    id: str
    text: str
    entities: tuple[Span, ...]
    cats: tuple[str, ...] | None
    """None where the corpus has no document labels: unknown, not absent."""
    title: str | None = None
    title_entities: tuple[Span, ...] = ()
    published_at: str | None = None
    genre: str = ""
    source: str = ""
    known_types: frozenset[str] | None = None
    """Types the corpus annotates; None means all. Other types are unknown there, not absent.
    Empty where `entities` is null: the document has labels and no annotated span."""

    def document(self) -> Document:
        """The part that the engine reads."""
        return Document(text=self.text, title=self.title, id=self.id)

    def mentions(self) -> Iterator[tuple[str, str]]:
        """Type and surface of each span, the title's first."""
        for text, spans in ((self.title or "", self.title_entities), (self.text, self.entities)):
            for span in spans:
                yield span.type, text[span.start : span.end]

    def to_json(self) -> bytes:
        """One line of a corpus file, without the line's end."""
        row: dict[str, Any] = {
            "id": self.id,
            "title": self.title,
            "text": self.text,
            "published_at": self.published_at,
            "entities": None
            if self.known_types == frozenset()
            else [[s.start, s.end, s.type] for s in self.entities],
            "title_entities": [[s.start, s.end, s.type] for s in self.title_entities],
            "cats": self.cats,
            "genre": self.genre,
            "source": self.source,
        }
        return orjson.dumps(row)


def read_corpus(path: Path, known_types: frozenset[str] | None = None) -> Iterator[AnnotatedDocument]:
    """The documents of a `.jsonl` or `.jsonl.gz` file.

    Raises CorpusError with file and line where a line breaks the format.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}", known_types)
    except (OSError, EOFError) as error:
        raise CorpusError(
            f"{path} cannot be read ({error}); expected a corpus file in JSON Lines, one document "
            "a line, as datasets/README.md describes."
        ) from error


def write_corpus(path: Path, documents: Iterable[AnnotatedDocument]) -> None:
    """Write documents as JSON Lines."""
    path.write_bytes(b"".join(document.to_json() + b"\n" for document in documents))


def split_file(corpus: Path, split: Split) -> Path | None:
    """The file of a split in a corpus folder, or None; a file stands for its train split."""
    if corpus.is_file():
        return corpus if split == "train" else None
    for suffix in (".jsonl", ".jsonl.gz"):
        if (file := corpus / f"{split}{suffix}").is_file():
            return file
    return None


def _parse(line: bytes, where: str, known_types: frozenset[str] | None) -> AnnotatedDocument:
    try:
        row = orjson.loads(line)
        cats, entities = row.get("cats"), row["entities"]
        text, title = row["text"], row.get("title")
        if not isinstance(text, str) or not isinstance(title, str | None):
            raise TypeError("text must be a string, title a string or null")
        return AnnotatedDocument(
            id=str(row["id"]),
            text=text,
            entities=_spans(entities or []),
            cats=None if cats is None else tuple(cats),
            title=title or None,
            title_entities=_spans(row.get("title_entities") or []),
            published_at=row.get("published_at"),
            genre=row.get("genre") or "",
            source=row.get("source") or "",
            known_types=frozenset() if entities is None else known_types,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorpusError(
            f"{where}: not an annotated document ({error!r}); expected an object such as "
            '{"id": "a1", "text": "…", "entities": [[0, 5, "PERSON"]], "cats": ["designation"]}.'
        ) from error


def _spans(rows: list[list[Any]]) -> tuple[Span, ...]:
    return tuple(sorted(Span(int(start), int(end), str(kind)) for start, end, kind in rows))
