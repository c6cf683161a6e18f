"""How far two independent annotations of the same documents agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving.errors import CorpusError
from training.formats.jsonl import read_rows
from training.metrics import Scores, score

Annotation = tuple[set[tuple[object, ...]], set[str]]
"""Spans as (field, start, end, type), and labels."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the documents that both annotations have."""

    documents: int
    spans: Scores
    """Strict F1; which annotation counts as gold makes no difference to F1."""
    kappas: Mapping[str, float]
    """Cohen's kappa by document label."""


def read_annotation(path: Path) -> dict[str, Annotation]:
    """Spans and labels by document id; rows are a corpus file's, the text may be left out."""
    found: dict[str, Annotation] = {}
    for where, row in read_rows(path):
        try:
            spans: set[tuple[object, ...]] = {
                (field, int(start), int(end), str(kind))
                for field, name in (("title", "title_entities"), ("text", "entities"))
                for start, end, kind in row.get(name) or []
            }
            found[str(row["id"])] = spans, set(row.get("cats") or [])
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{where}: expected id, entities and cats ({error!r}).") from error
    return found


def agreement(first: Mapping[str, Annotation], second: Mapping[str, Annotation]) -> Agreement:
    """Compare the documents that both have. Raises CorpusError if there is none."""
    ids = sorted(first.keys() & second.keys())
    if not ids:
        raise CorpusError("the two annotations share no document ids.")
    labels = sorted({label for side in (first, second) for i in ids for label in side[i][1]})
    given = np.array([[[label in side[i][1] for label in labels] for i in ids] for side in (first, second)])
    return Agreement(
        documents=len(ids),
        spans=score([first[i][0] for i in ids], [second[i][0] for i in ids]),
        kappas={label: _kappa(given[0, :, k], given[1, :, k]) for k, label in enumerate(labels)},
    )


def _kappa(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Agreement beyond chance of two yes-no judgements; 1 if neither ever varies."""
    observed = float((first == second).mean())
    p, q = float(first.mean()), float(second.mean())
    by_chance = p * q + (1 - p) * (1 - q)
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)
