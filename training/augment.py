"""The same documents shown otherwise: other names, other typography, no headline.

What each switch is worth stands in docs/LOG.md. Case is changed later, on token types
(training/examples.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from training.corpus import AnnotatedDocument, Span
from training.edits import Edit, edit_document
from training.gazetteer import Gazetteer

# Pairs of ways to write the same sign; a document gets one way throughout.
_TYPOGRAPHY = (("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"), ("–", "-"), ("—", "--"), ("…", "..."))
_SPACE = re.compile(r"(?<=\S) (?=\S)")


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Chances, a document, of each change; names come from `gazetteer`."""

    gazetteer: Gazetteer
    names_share: float
    typography_share: float
    wrap_share: float
    drop_title_share: float

    def __call__(self, document: AnnotatedDocument, random: np.random.Generator) -> AnnotatedDocument:
        """The document, changed or not; the same random state gives the same change."""
        luck = random.uniform(size=4)
        if luck[0] < self.names_share:
            document = replace_names(document, self.gazetteer, random)
        if luck[1] < self.typography_share:
            document = plain_typography(document)
        if luck[2] < self.wrap_share:
            document = hard_wrap(document, int(random.integers(60, 90)))
        if luck[3] < self.drop_title_share:
            document = replace(document, title=None, title_entities=())
        return document


def replace_names(
    document: AnnotatedDocument, gazetteer: Gazetteer, random: np.random.Generator
) -> AnnotatedDocument:
    """Put other names in the place of all that the gazetteer has a type for.

    A surface becomes the same name wherever it stands, whatever its case; one word of a full
    name (a surname, first or last) follows it. Other single words stay: acronyms are explained
    in the text, and a surname without its full name may be anybody's.
    """
    names = dict(gazetteer.draw(random))
    every = [
        *_mentions(document.title or "", document.title_entities),
        *_mentions(document.text, document.entities),
    ]
    chosen: dict[tuple[str, str], str] = {}
    for kind, surface in sorted(
        {(k, s.casefold()) for k, s in every if k in names}, key=lambda m: (-len(m[1]), m)
    ):
        short = next(
            (
                new.split()[-1]
                for (k, old), new in chosen.items()
                if k == kind == "PERSON" and surface in old.split()
            ),
            None,
        )
        if short:
            chosen[kind, surface] = short
        elif len(surface.split()) > 1 or kind == "VESSEL":
            chosen[kind, surface] = names[kind][random.integers(len(names[kind]))]

    def edits(text: str, spans: tuple[Span, ...]) -> list[Edit]:
        found = []
        for span in spans:
            surface = text[span.start : span.end]
            if name := chosen.get((span.type, surface.casefold())):
                found.append(Edit(span.start, span.end, name.upper() if surface.isupper() else name))
        return found

    return edit_document(
        document,
        edits(document.text, document.entities),
        edits(document.title or "", document.title_entities),
    )


def plain_typography(document: AnnotatedDocument) -> AnnotatedDocument:
    """Straight quotes and hyphens, as wires and old pages have."""

    def edits(text: str) -> list[Edit]:
        return [
            Edit(at.start(), at.end(), plain)
            for sign, plain in _TYPOGRAPHY
            for at in re.finditer(re.escape(sign), text)
        ]

    return edit_document(document, edits(document.text), edits(document.title or ""))


def hard_wrap(document: AnnotatedDocument, width: int) -> AnnotatedDocument:
    """Line breaks after about `width` characters, in the middle of sentences and names."""
    edits: list[Edit] = []
    column = end = 0
    for space in _SPACE.finditer(document.text):
        newline = document.text.rfind("\n", end, space.start())
        column = space.start() - newline - 1 if newline >= 0 else column + space.start() - end
        end = space.start()
        if column >= width:
            edits.append(Edit(space.start(), space.end(), "\n"))
            column = 0
    return edit_document(document, edits)


def _mentions(text: str, spans: tuple[Span, ...]) -> Iterator[tuple[str, str]]:
    return ((s.type, text[s.start : s.end]) for s in spans)
