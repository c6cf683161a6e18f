"""Names to put in the place of others: by type, in groups whose names go together."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument
from training.formats.jsonl import read_rows

_SMALLEST_GROUP = 20
_SMALLEST_POOL = 20
_ODD = re.compile(r"[()\"“”/;]")
"""In a name that a newspaper would not print so."""
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
            if programmes and not _ODD.search(name):
                running = running_case(name, kind, surname_first=str(programmes[0]).startswith("DPRK"))
                groups.setdefault(kind, {}).setdefault(str(programmes[0]), []).append(running)
        large = {k: {g: n for g, n in by.items() if len(n) >= _SMALLEST_GROUP} for k, by in groups.items()}
        found = {kind: by_group for kind, by_group in large.items() if by_group}
        if not found:
            raise CorpusError(
                f"{path}: no programme has {_SMALLEST_GROUP} names of one type; expected at least one."
            )
        return cls(found)

    @classmethod
    def of(
        cls,
        documents: Sequence[AnnotatedDocument],
        types: Collection[str],
        well_known: Collection[str],
    ) -> "Gazetteer":
        """The names of documents that are not well known, in groups by document."""
        groups: dict[str, dict[str, list[str]]] = {}
        for number, document in enumerate(documents):
            for kind, name in sorted(set(document.mentions())):
                if kind in types and name.casefold() not in well_known and not name.isupper():
                    groups.setdefault(kind, {}).setdefault(str(number), []).append(name)
        return cls(groups)

    def draw(self, random: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
        """For one document: each type with names of one group, and of more where it is small.

        Larger groups come more often; the names are in random order.
        """
        for kind, by_group in self.groups.items():
            groups = list(by_group.values())
            sizes = np.array([len(names) for names in groups], dtype=np.float64)
            pool: list[str] = []
            for group in random.choice(len(groups), len(groups), replace=False, p=sizes / sizes.sum()):
                pool += groups[group]
                if len(pool) >= _SMALLEST_POOL:
                    break
            yield kind, [pool[at] for at in random.permutation(len(pool))]


def names_of_several(documents: Sequence[AnnotatedDocument]) -> frozenset[str]:
    """Surfaces, case ignored, that more than one document mentions: ministries, statesmen, states."""
    counts = Counter(name for d in documents for name in {surface.casefold() for _, surface in d.mentions()})
    return frozenset(name for name, count in counts.items() if count > 1)


def running_case(name: str, kind: str, *, surname_first: bool = False) -> str:
    """A list's "SURNAME, Given" or "GLOBAL SHIPPING LLC" as a newspaper writes it."""
    if kind == "PERSON":
        surname, comma, given = name.partition(",")
        parts = (surname, given.strip()) if surname_first else (given.strip(), surname)
        name = " ".join(parts) if comma else name
    return " ".join(word if _stays(word) else _capital(word) for word in name.split())


def _stays(word: str) -> bool:
    """Legal forms, abbreviations with dots inside, and numbers are not written like names."""
    return word.upper().rstrip(",") in _FORM_WORDS or "." in word[:-1] or any(c.isdigit() for c in word)


def _capital(word: str) -> str:
    return "-".join(part[:1].upper() + part[1:].lower() for part in word.split("-"))
