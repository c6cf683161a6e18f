"""Annotation kept apart from text that may not be copied, and the two put together again.

A row names a document of somebody's collection, the stretch of its text that was read, and that
stretch's hash: `{"id", "start", "end", "sha256", "entities", "cats"}`. Span offsets count from
`start`. `document` names the document where it is not `id`, for example when two of its stretches
are annotated; `"title": true` says that the document's title was read, too. So labels can be shared
where text cannot.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, Span
from training.formats.jsonl import read_rows, text_of


def attach(annotation: Path, texts: Iterable[Path]) -> Iterator[AnnotatedDocument]:
    """Annotated documents, in the order of the annotation.

    Raises CorpusError if a document is missing or its text is not the one that was annotated.
    """
    rows = [(where, row) for where, row in read_rows(annotation)]
    wanted = {str(row.get("document", row.get("id"))) for _, row in rows}
    found = {
        str(row["id"]): (text_of(row, where), row)
        for file in texts
        for where, row in read_rows(file)
        if str(row.get("id")) in wanted
    }
    for where, row in rows:
        try:
            id_, start, end = str(row["id"]), int(row["start"]), int(row["end"])
            name = str(row.get("document", id_))
            digest, cats, entities = str(row["sha256"]), row["cats"], row["entities"]
            spans = tuple(sorted(Span(int(a), int(b), str(kind)) for a, b, kind in entities or []))
            if not isinstance(cats, list | None):
                raise TypeError(f"cats is a {type(cats).__name__}")
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{where}: not an annotation apart from its text ({error!r}); expected "
                '{"id", "start", "end", "sha256", "entities": [[start, end, "TYPE"]] or null, "cats"} '
                'and perhaps "document", "title".'
            ) from error
        if name not in found:
            raise CorpusError(f"{where}: no text has the id {name!r}; expected it in one of the text files.")
        text, source = found[name]
        text = text[start:end]
        if stretch_hash(text) != digest:
            raise CorpusError(
                f"{where}: characters {start} to {end} of {name!r} have the hash {stretch_hash(text)}, "
                f"expected {digest}: this is another version of the text. Get the one that was annotated."
            )
        title = source.get("title") if row.get("title") else None
        if row.get("title") and not title:
            raise CorpusError(f"{where}: {name!r} has no title, but the annotation is of one.")
        if title and spans:
            raise CorpusError(
                f"{where}: the annotation has spans of the text and none of the title, which would teach "
                'that it holds none; leave "title" out.'
            )
        yield AnnotatedDocument(
            id=id_,
            title=title,
            text=text,
            entities=spans,
            cats=None if cats is None else tuple(map(str, cats)),
            published_at=source.get("published_at") or source.get("date") or None,
            source=str(source.get("source") or ""),
            known_types=frozenset() if entities is None else None,
        )


def stretch_hash(text: str) -> str:
    """SHA-256 of a stretch of text."""
    return hashlib.sha256(text.encode()).hexdigest()
