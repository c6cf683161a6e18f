"""doccano's JSONL, exported and imported by its projects for sequence labelling.

Both forms are read: `label: [[start, end, type]]` and `entities: [{start_offset, …}]` with
`cats`. Offsets are code points. Other keys become columns of a document in doccano, so
all our fields survive; in doccano only spans of the text can be edited. For review the title therefore
stands in the text, and `title_length` says where it ends.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from serving.errors import CorpusError
from serving.model_folder import ModelFolder
from training.corpus import AnnotatedDocument, Span
from training.formats.jsonl import read_rows, text_of, write_rows
from training.formats.losses import Losses
from training.review import Suggestion

_BREAK = "\n\n"


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Documents of a doccano export; relations and comments are not carried over."""
    for where, row in read_rows(path):
        losses.add("relations", len(row.get("relations") or []))
        losses.add("Comments", len(row.get("Comments") or []))
        spans = row.get("entities", row.get("label", row.get("labels")))
        cats = row.get("cats")
        try:
            document = AnnotatedDocument(
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
            length = int(row.get("title_length") or 0)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{where}: spans {spans!r} are not doccano's ({error!r}); expected "
                '[[start, end, "TYPE"]] or [{"start_offset", "end_offset", "label"}].'
            ) from error
        yield _apart(document, length, where, losses) if length else document


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """A file for doccano's importer (JSONL, column of spans `entities`, of labels `cats`)."""
    write_rows(path, (_row(document) for document in documents))


def write_review(suggestions: Iterable[Suggestion], path: Path, model: ModelFolder) -> list[Path]:
    """Documents with the model's annotation, their titles in the text; and the label lists beside them.

    For a project of intent detection and slot filling: its categories are our labels.
    """
    write_rows(path, (_joint_row(one.document) for one in suggestions))
    lists = {
        "categories": [label.name for label in model.config.labels],
        "spans": model.config.type_names(),
    }
    files = [path]
    for kind, names in lists.items():
        files.append(path.with_suffix(f".{kind}.json"))
        files[-1].write_bytes(orjson.dumps([{"text": name} for name in names]))
    return files


def _joint_row(document: AnnotatedDocument) -> dict[str, Any]:
    title = document.title or ""
    shift = len(title + _BREAK) if title else 0
    moved = (replace(s, start=s.start + shift, end=s.end + shift) for s in document.entities)
    joint = replace(
        document,
        text=title + _BREAK + document.text if title else document.text,
        entities=(*document.title_entities, *moved),
        title=None,
        title_entities=(),
        cats=document.cats or (),
    )
    return {**_row(joint), "title_length": len(title)}


def _apart(document: AnnotatedDocument, length: int, where: str, losses: Losses) -> AnnotatedDocument:
    """The title, which is so long, out of the text again."""
    if document.text[length : length + len(_BREAK)] != _BREAK:
        raise CorpusError(
            f"{where}: no blank line after the title of {length} characters; expected the text as it was "
            "written for review, with other spans at most."
        )
    shift = length + len(_BREAK)
    title = tuple(s for s in document.entities if s.end <= length)
    text = tuple(
        replace(s, start=s.start - shift, end=s.end - shift) for s in document.entities if s.start >= shift
    )
    losses.add("span over title and text", len(document.entities) - len(title) - len(text))
    return replace(
        document,
        title=document.text[:length],
        title_entities=title,
        text=document.text[shift:],
        entities=text,
    )


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
