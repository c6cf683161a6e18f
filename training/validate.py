"""What a corpus must keep: exact spans, known names, label rules, no near-duplicates."""

import re
from collections.abc import Iterator, Sequence

from training.corpus import AnnotatedDocument, Span
from training.duplicates import NearDuplicates
from training.schema import Schema

# Punctuation that ends a name ("Inc.", "U.S.", "(2006)") stays inside a span.
_UNTRIMMED = re.compile(r"^[\s\"'“”‘’«»,;:(]|[\s\"“”«»,;:]$")
_POSSESSIVE = re.compile(r"['’]s$")


def problems(document: AnnotatedDocument, schema: Schema) -> list[str]:
    """All that is wrong with one document, each with what was expected; empty if nothing is."""
    found = [*_span_problems(document.text, document.entities, schema, "text")]
    found += _span_problems(document.title or "", document.title_entities, schema, "title")
    found += _label_problems(document.cats, schema)
    if not document.text.strip():
        found.append("the text is empty")
    return [f"{document.id}: {problem}" for problem in found]


def _span_problems(text: str, spans: Sequence[Span], schema: Schema, field: str) -> Iterator[str]:
    previous = Span(0, 0, "")
    surfaces = {text[span.start : span.end] for span in spans}
    for span in sorted(spans):
        surface = text[span.start : span.end]
        name = f"{field}[{span.start}:{span.end}] {surface!r} {span.type}"
        if not 0 <= span.start < span.end <= len(text):
            yield f"{name}: the offsets leave the {field}, which has {len(text)} characters"
        elif _UNTRIMMED.search(surface) and not _balanced(surface):
            yield f"{name}: not trimmed; leave out spaces and outer punctuation"
        elif _POSSESSIVE.sub("", surface) in surfaces - {surface}:
            # Lloyd's and St George's are names; beside a span "Lloyd" the 's would be a possessive.
            yield f"{name}: not trimmed; leave out possessive 's"
        if span.type not in schema.types:
            yield f"{name}: unknown type; expected one of {', '.join(schema.types)}"
        if span.start < previous.end:
            yield f"{name}: overlaps {text[previous.start : previous.end]!r}; the longest wins"
        previous = span


_OPENING = {"»": "«", "”": "“", '"': '"'}


def _balanced(surface: str) -> bool:
    """True if the punctuation at the ends belongs to the name: «Rosa» LLC, a nickname at the end."""
    first, last, inner = surface[0], surface[-1], surface[1:-1]
    ends_well = last not in '"“”«»,;: \t\n' or _OPENING.get(last, "\0") in inner
    begins_well = first not in '"“”‘«»,;:( \t\n' or (first in '(«“"‘' and any(c in inner for c in ')»”"’'))
    return begins_well and ends_well


def _label_problems(cats: Sequence[str] | None, schema: Schema) -> Iterator[str]:
    if cats is None:
        return
    for unknown in sorted(set(cats) - schema.labels.keys()):
        yield f"unknown label {unknown!r}; expected one of {', '.join(schema.labels)}"
    if len(set(cats)) < len(cats):
        yield f"labels are repeated: {list(cats)}"
    alone = set(cats) & set(schema.labels_of("relevance"))
    if alone and len(cats) > 1:
        yield f"{alone.pop()} stands alone, got {list(cats)}"
    if not alone and not set(cats) & set(schema.labels_of("event")):
        yield f"needs an event label ({', '.join(schema.labels_of('event'))}), got {list(cats)}"


def near_duplicates(documents: Sequence[AnnotatedDocument]) -> list[tuple[int, int]]:
    """Pairs of positions whose texts are copies of one story."""
    seen = NearDuplicates()
    return [(other, number) for number, document in enumerate(documents) for other in seen.add(document.text)]
