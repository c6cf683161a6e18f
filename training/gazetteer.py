"""Names to put in the place of others: by type, in groups whose names go together."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument
from training.formats.jsonl import read_rows

_SMALLEST_GROUP = 20
_FORM_WORDS = {"LLC", "LTD", "LTD.", "JSC", "OOO", "OAO", "PJSC", "FZE", "FZCO", "GMBH", "S.A.", "SA",
               "II", "III", "IV", "USA", "DPRK", "OJSC", "AO", "PAO", "CO.", "INC."}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gazetteer:
    """Names by type and group; names of one group sound alike, as those of one story do."""

    groups: dict[str, dict[str, list[str]]]
    """Type -> group -> names in the case of running text."""

    @classmethod
    def load(cls, path: Path) -> "Gazetteer":
        """Rows `{"name", "type", "programme": [...]}`; persons stand as "SURNAME, Given"."""
        groups: dict[str, dict[str, list[str]]] = {}
        for where, row in read_rows(path):
            try:
                name, kind, programmes = str(row["name"]), str(row["type"]), list(row["programme"])
            except (KeyError, TypeError) as error:
                raise CorpusError(
                    f'{where}: not a name ({error!r}); expected {{"name", "type", "programme": []}}.'
                ) from error
            for programme in programmes[:1]:
                groups.setdefault(kind, {}).setdefault(programme, []).append(running_case(name, kind))
        large = {k: {g: n for g, n in by.items() if len(n) >= _SMALLEST_GROUP} for k, by in groups.items()}
        return cls({kind: by_group for kind, by_group in large.items() if by_group})

    @classmethod
    def of(cls, documents: Sequence[AnnotatedDocument], types: Collection[str]) -> "Gazetteer":
        """The names that only one of the documents has, in groups by document."""
        well_known = names_of_several(documents)
        groups: dict[str, dict[str, list[str]]] = {}
        for number, document in enumerate(documents):
            for kind, name in sorted(set(document.mentions())):
                if kind in types and name.casefold() not in well_known and not name.isupper():
                    groups.setdefault(kind, {}).setdefault(str(number), []).append(name)
        return cls(groups)

    def draw(self, random: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
        """For one document: each type with the names of one group, larger groups more often."""
        for kind, by_group in self.groups.items():
            sizes = np.array([len(names) for names in by_group.values()], dtype=np.float64)
            chosen = random.choice(len(sizes), p=sizes / sizes.sum())
            yield kind, list(by_group.values())[chosen]


def names_of_several(documents: Sequence[AnnotatedDocument]) -> frozenset[str]:
    """Surfaces, case ignored, that more than one document mentions: ministries, statesmen, states."""
    counts = Counter(name for d in documents for name in {surface.casefold() for _, surface in d.mentions()})
    return frozenset(name for name, count in counts.items() if count > 1)


def running_case(name: str, kind: str) -> str:
    """A list's "KIM, Jong Un" or "GLOBAL SHIPPING LLC" as a newspaper writes it."""
    if kind == "PERSON":
        surname, comma, given = name.partition(",")
        name = f"{given.strip()} {surname}" if comma else name
    words = (
        w if w.upper() in _FORM_WORDS or any(c.isdigit() for c in w) else _capital(w) for w in name.split()
    )
    return " ".join(words)


def _capital(word: str) -> str:
    return "-".join(part[:1].upper() + part[1:].lower() for part in word.split("-"))
