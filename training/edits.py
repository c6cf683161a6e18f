"""Change a text in places and keep its spans exact."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from training.corpus import AnnotatedDocument, Span


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Characters `start:end` become `text`."""

    start: int
    end: int
    text: str


def apply_edits(text: str, spans: Sequence[Span], edits: Sequence[Edit]) -> tuple[str, tuple[Span, ...]]:
    """The changed text and its spans.

    Edits do not overlap; one may replace a whole span or lie inside or outside spans, but
    not reach over a span's border (ValueError).
    """
    ordered = sorted(edits)
    parts: list[str] = []
    end = 0
    for edit in ordered:
        if edit.start < end:
            raise ValueError(f"{edit} overlaps the edit before it")
        parts += [text[end : edit.start], edit.text]
        end = edit.end
    changed = "".join([*parts, text[end:]])

    moved: list[Span] = []
    for span in spans:
        before = within = 0
        for edit in ordered:
            growth = len(edit.text) - (edit.end - edit.start)
            if edit.end <= span.start:
                before += growth
            elif edit.start >= span.end:
                break
            elif span.start <= edit.start and edit.end <= span.end:
                within += growth
            else:
                raise ValueError(f"{edit} reaches over the border of {span}")
        moved.append(replace(span, start=span.start + before, end=span.end + before + within))
    return changed, tuple(moved)


def edit_document(
    document: AnnotatedDocument, text_edits: Sequence[Edit], title_edits: Sequence[Edit] = ()
) -> AnnotatedDocument:
    """The document with edits in its text and title."""
    text, entities = apply_edits(document.text, document.entities, text_edits)
    title, title_entities = apply_edits(document.title or "", document.title_entities, title_edits)
    return replace(document, text=text, entities=entities, title=title or None, title_entities=title_entities)
