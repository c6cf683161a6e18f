"""spaCy's DocBin, as `spacy train` reads it: entities, and every label of the file as 1 or 0.

spaCy has no titles: a title is put before the text, and user data remember where it ends.
Tokens are those of spaCy's blank English pipeline; a span that ends inside one is widened.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.errors import CorpusError, TrainingError
from training.corpus import AnnotatedDocument, Span
from training.formats.losses import Losses

if TYPE_CHECKING:
    from spacy.tokens import Doc

_USER_DATA = "embargo"
_GAP = "\n\n"


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Documents of a DocBin, also one that `embargo data export` did not write."""
    _need_spacy()
    import spacy
    from spacy.tokens import DocBin

    try:
        docs = list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorpusError(f"{path} is no DocBin ({error}); expected a .spacy file.") from error
    for number, doc in enumerate(docs):
        losses.add("span groups", len(doc.spans))
        yield _document(doc, str(number))


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """A file for `spacy train`: `ner` learns the entities, `textcat_multilabel` the labels."""
    _need_spacy()
    import spacy
    from spacy.tokens import DocBin

    pipeline = spacy.blank("en")
    every = list(documents)
    labels = sorted({label for document in every for label in document.cats or ()})
    docs = []
    for document in every:
        text = with_title(document)
        pipeline.max_length = max(pipeline.max_length, len(text))
        doc = pipeline.make_doc(text)
        begin = len(text) - len(document.text)
        shifted = [Span(s.start + begin, s.end + begin, s.type) for s in document.entities]
        if document.known_types is None:
            _set_entities(doc, [*document.title_entities, *shifted], losses)
        else:  # spaCy does not learn from what is missing
            doc.set_ents([], default="missing")
        if document.cats is not None:
            doc.cats = {label: float(label in document.cats) for label in labels}
        doc.user_data[_USER_DATA] = {
            "id": document.id,
            "title": len(document.title or ""),
            "cats": None if document.cats is None else list(document.cats),
            "published_at": document.published_at,
            "genre": document.genre,
            "source": document.source,
        }
        docs.append(doc)
    DocBin(attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True, docs=docs).to_disk(path)


def with_title(document: AnnotatedDocument) -> str:
    """The text as spaCy gets it."""
    return f"{document.title}{_GAP}{document.text}" if document.title else document.text


def split_spans(doc: "Doc", title: str | None) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Entities of a Doc made of `with_title`: the title's, and the text's with its own offsets."""
    begin = len(title) + len(_GAP) if title else 0
    spans = [Span(e.start_char, e.end_char, e.label_) for e in doc.ents]
    return (
        tuple(s for s in spans if s.end <= len(title or "")),
        tuple(Span(s.start - begin, s.end - begin, s.type) for s in spans if s.start >= begin),
    )


def _set_entities(doc: "Doc", spans: Iterable[Span], losses: Losses) -> None:
    found: list[Any] = []
    for span in sorted(spans):
        entity = doc.char_span(span.start, span.end, label=span.type, alignment_mode="expand")
        if entity is None or (found and entity.start < found[-1].end):
            losses.add("span that shares a token with another")
            continue
        if (entity.start_char, entity.end_char) != (span.start, span.end):
            losses.add("border of a span inside a token")
        found.append(entity)
    doc.set_ents(found)


def _document(doc: "Doc", number: str) -> AnnotatedDocument:
    kept: dict[str, Any] = doc.user_data.get(_USER_DATA, {})
    title = doc.text[: int(kept.get("title", 0))]
    title_entities, entities = split_spans(doc, title)
    held = [label for label, score in doc.cats.items() if score >= 0.5] if doc.cats else None
    order = kept.get("cats")
    # The order of labels, and that there are none, are not to be seen in `doc.cats`.
    cats = order if order is not None and set(order) == set(held or ()) else held
    return AnnotatedDocument(
        id=kept.get("id", number),
        text=doc.text[len(title) + len(_GAP) :] if title else doc.text,
        entities=entities,
        cats=None if cats is None else tuple(cats),
        title=title or None,
        title_entities=title_entities,
        published_at=kept.get("published_at"),
        genre=kept.get("genre", ""),
        source=kept.get("source", ""),
        known_types=None if doc.has_annotation("ENT_IOB") else frozenset(),
    )


def _need_spacy() -> None:
    """Raise TrainingError with the fix if spaCy, which is large and only this needs, is missing."""
    try:
        import spacy  # noqa: F401
    except ModuleNotFoundError as error:
        raise TrainingError(
            "DocBin needs spaCy, which is not installed: pip install -c constraints.txt spacy"
        ) from error
