"""Prodigy's JSONL: `spans` with code-point offsets, `accept` of a choice task, `meta`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, Span
from training.formats.jsonl import read_rows, text_of, write_rows
from training.formats.losses import Losses

_MARKED_BY_HAND = ("ner_manual", "spans_manual")
"""Interfaces in which a task without spans says that there is none."""


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Accepted tasks; rejected and ignored ones are counted.

    So are binary tasks' labels: they leave the other labels open, and in a corpus those would be absent.
    """
    for where, row in read_rows(path):
        if (answer := row.get("answer", "accept")) != "accept":
            losses.add(f"task with answer {answer!r}")
            continue
        meta = row.get("meta") or {}
        accept = row.get("accept")
        if accept is None and "label" in row:
            losses.add("label of a binary task")
        marked = "spans" in row or row.get("_view_id") in _MARKED_BY_HAND
        try:
            yield AnnotatedDocument(
                id=str(meta.get("id", where.rpartition(":")[2])),
                text=text_of(row, where),
                entities=_spans(row.get("spans") or []),
                cats=None if accept is None else tuple(accept),
                title=meta.get("title") or None,
                title_entities=_spans(meta.get("title_spans") or []),
                published_at=meta.get("published_at") or None,
                genre=meta.get("genre") or "",
                source=meta.get("source") or "",
                known_types=None if marked else frozenset(),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f'{where}: not a Prodigy task ({error!r}); expected spans as [{{"start", "end", "label"}}].'
            ) from error


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """Tasks for Prodigy's span and choice interfaces; Prodigy tokenises them itself."""
    write_rows(path, (_row(document) for document in documents))


def _row(document: AnnotatedDocument) -> dict[str, Any]:
    row: dict[str, Any] = {
        "text": document.text,
        "spans": _rows(document.entities),
        "answer": "accept",
        "meta": {
            "id": document.id,
            "title": document.title or "",
            "title_spans": _rows(document.title_entities),
            "published_at": document.published_at or "",
            "genre": document.genre,
            "source": document.source,
        },
    }
    return row if document.cats is None else {**row, "accept": list(document.cats)}


def _rows(spans: Iterable[Span]) -> list[dict[str, Any]]:
    return [{"start": s.start, "end": s.end, "label": s.type} for s in spans]


def _spans(rows: list[dict[str, Any]]) -> tuple[Span, ...]:
    return tuple(sorted(Span(int(r["start"]), int(r["end"]), str(r["label"])) for r in rows))
