"""A folder of Hugging Face `datasets`: one row a document, spans as lists of structs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, Span
from training.formats.losses import Losses

_SPANS = [
    {"start": datasets.Value("int64"), "end": datasets.Value("int64"), "type": datasets.Value("string")}
]
_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "title": datasets.Value("string"),
        "text": datasets.Value("string"),
        "published_at": datasets.Value("string"),
        "entities": _SPANS,
        "title_entities": _SPANS,
        "cats": datasets.Sequence(datasets.Value("string")),
        "genre": datasets.Value("string"),
        "source": datasets.Value("string"),
    }
)


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Rows of a folder that `save_to_disk` wrote."""
    try:
        rows = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise CorpusError(f"{path} is no folder of `datasets.save_to_disk` ({error}).") from error
    if not isinstance(rows, datasets.Dataset) or not {"text", "entities"} <= set(rows.column_names):
        raise CorpusError(f"{path}: expected one split with the columns text and entities.")
    for number, row in enumerate(rows):
        yield AnnotatedDocument(
            id=str(row.get("id", number)),
            text=row["text"],
            entities=_spans(row["entities"]),
            cats=None if row.get("cats") is None else tuple(row["cats"]),
            title=row.get("title"),
            title_entities=_spans(row.get("title_entities") or []),
            published_at=row.get("published_at"),
            genre=row.get("genre") or "",
            source=row.get("source") or "",
        )


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """Write a folder for `datasets.load_from_disk`."""
    rows = [_row(document) for document in documents]
    if not rows:
        raise CorpusError(f"no documents to write to {path}; `datasets` cannot load a folder without rows.")
    columns = {name: [row[name] for row in rows] for name in _FEATURES}
    datasets.Dataset.from_dict(columns, features=_FEATURES).save_to_disk(str(path))


def _row(document: AnnotatedDocument) -> dict[str, Any]:
    def rows(spans: Iterable[Span]) -> list[dict[str, Any]]:
        return [{"start": s.start, "end": s.end, "type": s.type} for s in spans]

    return {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "published_at": document.published_at,
        "entities": rows(document.entities),
        "title_entities": rows(document.title_entities),
        "cats": None if document.cats is None else list(document.cats),
        "genre": document.genre,
        "source": document.source,
    }


def _spans(rows: list[dict[str, Any]]) -> tuple[Span, ...]:
    return tuple(sorted(Span(row["start"], row["end"], row["type"]) for row in rows))
