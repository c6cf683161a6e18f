"""The same documents shown otherwise: other names, other typography, no headline.

`embargo trials docs/trials/augmentation.toml` measures what each switch is worth. Case is
changed later, on token types (training/examples.py).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from training.config import TrainConfig
from training.corpus import AnnotatedDocument, Span
from training.edits import Edit, edit_document
from training.gazetteer import Gazetteer

# Typographic signs and what wires and old pages have for them.
_TYPOGRAPHY = (("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"), ("–", "-"), ("—", "--"), ("…", "..."))
_SPACE = re.compile(r"(?<=\S) (?=\S)")


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Changes documents by the chances of a TrainConfig."""

    config: TrainConfig
    gazetteer: Gazetteer
    well_known: frozenset[str]
    """Names that stay what they are, case ignored."""

    def __call__(self, document: AnnotatedDocument, random: np.random.Generator) -> AnnotatedDocument:
        """The document, changed or not; the same random state gives the same change."""
        luck = random.uniform(size=4)
        if luck[0] < self.config.names_share:
            document = replace_names(document, self.gazetteer, self.well_known, random)
        if luck[1] < self.config.typography_share:
            document = plain_typography(document)
        if luck[2] < self.config.wrap_share:
            document = hard_wrap(document, int(random.integers(60, 90)))
        if luck[3] < self.config.drop_title_share:
            document = replace(document, title=None, title_entities=())
        return document


def replace_names(
    document: AnnotatedDocument,
    gazetteer: Gazetteer,
    well_known: frozenset[str],
    random: np.random.Generator,
) -> AnnotatedDocument:
    """Put other names in the place of all that the gazetteer has a type for.

    A name becomes the same other name wherever it stands, whatever its case; its first or last
    word alone, a surname or a firm's short name, follows it. Names that many documents share
    stay, for what is said of a ministry is not said of a shell firm.
    """
    chosen: dict[tuple[str, str], str] = {}
    kept: set[tuple[str, str]] = set()
    pools = dict(gazetteer.draw(random))
    every = list(document.mentions())
    names = {(kind, surface.casefold()) for kind, surface in every}
    in_running_case = {(kind, surface.casefold()) for kind, surface in every if not surface.isupper()}
    # Longest first, so that a short form meets the name it belongs to.
    for kind, name in sorted(names, key=lambda m: (-len(m[1]), m)):
        if kind not in pools:
            continue
        words = len(name.split())
        acronym = words == 1 and len(name) <= _LONGEST_ACRONYM and (kind, name) not in in_running_case
        if short := _short_form(kind, name, chosen):
            chosen[kind, name] = short
        elif name in well_known or acronym or _is_part_of(kind, name, kept):
            kept.add((kind, name))
        else:
            strangers = (n for n in pools[kind] if (kind, n.casefold()) not in names)
            if new := next((n for n in strangers if _fits(n, words)), None):
                pools[kind].remove(new)  # another name of this document gets another
                chosen[kind, name] = new

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


_LONGEST_ACRONYM = 6
"""A longer word that stands only in capitals is a speaker or a ship; an acronym stays, for it is
spelt out somewhere."""


def _fits(name: str, words: int) -> bool:
    """One word for one word, several for several."""
    return (len(name.split()) > 1) == (words > 1)


def _short_form(kind: str, name: str, chosen: Mapping[tuple[str, str], str]) -> str | None:
    """The first or last word of the name that stands for what `name` is the first or last word of."""
    for (other_kind, old), new in chosen.items():
        if other_kind == kind and len(old.split()) > 1:
            for at in (-1, 0):
                if old.split()[at] == name:
                    return new.split()[at]
    return None


def _is_part_of(kind: str, name: str, kept: Collection[tuple[str, str]]) -> bool:
    """True for the first or last word of a name that stays: "Annan" stays with "Kofi Annan"."""
    return any(kind == other and name in (old.split()[0], old.split()[-1]) for other, old in kept)


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
