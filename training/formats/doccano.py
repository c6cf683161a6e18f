"""doccano's JSONL, exported and imported by its projects for sequence labelling.

Both forms are read: `label: [[start, end, type]]` and `entities: [{start_offset, …}]` with
`cats`. Offsets are code points. Other keys become columns of a document in doccano, so
all our fields survive; in doccano only spans of the text can be edited.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, Span
from training.formats.jsonl import read_rows, text_of, write_rows
from training.formats.losses import Losses


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Documents of a doccano export; relations and comments are not carried over."""
    for where, row in read_rows(path):
        losses.add("relations", len(row.get("relations") or []))
        losses.add("Comments", len(row.get("Comments") or []))
        spans = row.get("entities", row.get("label", row.get("labels")))
        cats = row.get("cats")
        try:
            yield AnnotatedDocument(
                id=str(row.get("document_id", row.get("id", where.rpartition(":")[2]))),
                text=text_of(row, where),
                entities=tuple(sorted(map(_span, spans or []))),
                cats=None if cats is None else tuple(cats),
                title=row.get("title") or None,
                title_entities=tuple(sorted(map(_span, row.get("title_entities") or []))),
                published_at=row.get("published_at") or None,
                genre=row.get("genre") or "",
                source=row.get("source") or "",
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{where}: spans {spans!r} are not doccano's ({error!r}); expected "
                '[[start, end, "TYPE"]] or [{"start_offset", "end_offset", "label"}].'
            ) from error


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """A file for doccano's importer (JSONL, column of spans `entities`, of labels `cats`)."""
    write_rows(path, (_row(document) for document in documents))


def _row(document: AnnotatedDocument) -> dict[str, Any]:
    row: dict[str, Any] = {
        # doccano numbers documents itself and overwrites "id".
        "document_id": document.id,
        "text": document.text,
        "entities": [[s.start, s.end, s.type] for s in document.entities],
        "title": document.title or "",
        "title_entities": [[s.start, s.end, s.type] for s in document.title_entities],
        "published_at": document.published_at or "",
        "genre": document.genre,
        "source": document.source,
    }
    return row if document.cats is None else {**row, "cats": list(document.cats)}


def _span(given: Any) -> Span:
    if isinstance(given, dict):
        return Span(int(given["start_offset"]), int(given["end_offset"]), str(given["label"]))
    start, end, kind = given
    return Span(int(start), int(end), str(kind))
