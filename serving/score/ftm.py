"""Results as FollowTheMoney entities: an Article a document, a Mention a name in it.

OpenAleph and OpenSanctions tooling read these. FollowTheMoney has no property for an offset or a
score; keys beside `properties` it keeps ("context"), and it joins them by value when two entities
with the same id meet, so each holds a text, a number, or a list of texts.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from serving.results import Analysis, Document, Entity, OffsetUnit
from serving.score.countries import country_code

SCHEMATA = {
    "PERSON": "Person",
    "ORG": "Organization",
    "VESSEL": "Vessel",
    "LOCATION": "Address",
    "FACILITY": "Address",
}
"""Schema that a span's type names. Spans of other types are no entities: the Article holds them."""

_LISTED = {
    "peopleMentioned": {"PERSON"},
    "companiesMentioned": {"ORG"},
    "locationMentioned": {"LOCATION", "FACILITY"},
    "namesMentioned": {"PERSON", "ORG", "VESSEL"},
}
"""Properties of an Article that repeat the names in it, as ftm-analyze fills them."""

_OF_COUNTRIES = {"LOCATION", "NORP"}

_DATE_PREFIX = re.compile(r"[12]\d{3}(-(0[1-9]|1[0-2]))?")


def entities(
    document: Document,
    published_at: str | None,
    analysis: Analysis,
    *,
    model_sha256: str,
    with_text: bool,
    offset_unit: OffsetUnit,
) -> Iterator[dict[str, Any]]:
    """The Article of a document, then a Mention for each span that names an entity.

    The ids follow from the document's id and the place and type of the span, so another run gives
    the same ones, and documents with the same id become one Article.
    """
    spans = analysis.entities or ()
    labels = analysis.labels or ()
    mentions = [span for span in spans if _is_mention(span)]
    countries = list(
        dict.fromkeys(
            code for span in spans if span.type in _OF_COUNTRIES if (code := country_code(span.text))
        )
    )
    article_id = entity_id("article", str(analysis.id))
    date = ftm_date(published_at)
    properties = {
        "title": [document.title] if document.title else [],
        "bodyText": [document.text] if with_text else [],
        "publishedAt": [date] if date else [],
        "notes": [f"published_at: {published_at}"] if published_at and not date else [],
        "keywords": [label.label for label in labels],
        "detectedCountry": countries,
        **{
            name: list(dict.fromkeys(_name(span) for span in mentions if span.type in types))
            for name, types in _LISTED.items()
        },
    }
    context = {
        "embargo_id": str(analysis.id),
        "embargo_model_sha256": model_sha256,
        "embargo_offset_unit": offset_unit,
        "embargo_labels": [f"{label.label} {label.score}" for label in labels],
        "embargo_evidence": [
            f"{label.label} {found.field} {found.start} {found.end} {found.score}"
            for label in labels
            for found in label.evidence or ()
        ],
        "embargo_spans": [
            f"{span.type} {span.field} {span.start} {span.end} {span.score}"
            for span in spans
            if not _is_mention(span)
        ],
    }
    yield {
        "id": article_id,
        "schema": "Article",
        "properties": {name: values for name, values in properties.items() if values},
        **{key: value for key, value in context.items() if value},
    }
    for span in mentions:
        yield _mention(article_id, span, countries)


def entity_id(*parts: str) -> str:
    """An id as FollowTheMoney makes them: 40 hexadecimal digits that follow from the parts."""
    return hashlib.sha1("\0".join(parts).encode(), usedforsecurity=False).hexdigest()


def ftm_date(given: str | None) -> str | None:
    """A date as FollowTheMoney writes it, in UTC where a zone is given; None where it is none in ISO 8601."""
    text = (given or "").strip()
    if _DATE_PREFIX.fullmatch(text):  # a year, or a year and a month
        return text
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if not 1000 <= moment.year < 3000:  # FollowTheMoney knows no others
        return None
    return moment.strftime("%Y-%m-%d" if len(text) <= len("2026-01-31") else "%Y-%m-%dT%H:%M:%S")


def _mention(article_id: str, span: Entity, countries: list[str]) -> dict[str, Any]:
    return {
        "id": entity_id(article_id, span.field, str(span.start), str(span.end), span.type),
        "schema": "Mention",
        "properties": {
            "document": [article_id],
            "name": [_name(span)],
            "detectedSchema": [SCHEMATA[span.type]],
            **({"contextCountry": countries} if countries else {}),
        },
        "embargo_type": span.type,
        "embargo_field": span.field,
        "embargo_start": span.start,
        "embargo_end": span.end,
        "embargo_text": span.text,
        "embargo_score": span.score,
    }


def _is_mention(span: Entity) -> bool:
    """It names an entity. Quotes and dashes alone are no name to FollowTheMoney."""
    return span.type in SCHEMATA and any(character.isalnum() for character in span.text)


def _name(span: Entity) -> str:
    """The span on one line."""
    return " ".join(span.text.split())
