"""What the service is asked in its measurements, and whether it answered as the engine does."""

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

import orjson

from benchmarks.work import Size, Slice, slices
from serving.results import Document
from training.corpus import Split, split_file
from training.inputs import sound_documents
from training.schema import Schema

BATCH = 32
WORDS = 500
_READ: tuple[Split, ...] = ("dev", "train")
"""Of a corpus, for speed: never a test set."""
SameOrNot = Literal["same", "close", "other"]
_CLOSE = 1e-3 + 1e-9
"""The contract's word on scores; both are rounded to three decimals."""


def documents(corpus: Path, schema: Schema, count: int, of_a_length: int, seed: int) -> tuple[Slice, Slice]:
    """Articles of mixed lengths, and texts of 500 words; the same for the same seed."""
    articles = [
        article
        for split in _READ
        if (file := split_file(corpus, split))
        for article in sound_documents(file, schema)
    ]
    size = Size(0, (count,), 0, (WORDS,), of_a_length * WORDS, 1, 1, None)
    made = {slice.name: slice for slice in slices(articles, size, seed)}
    return made[f"mixed_{count}"], made[f"words_{WORDS}"]


def calls_of(documents: Sequence[Document], size: int) -> list[list[dict[str, Any]]]:
    """Documents as JSON values, so many a call."""
    rows = [{"id": d.id, "title": d.title, "text": d.text} for d in documents]
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def bodies_of(calls: Iterable[Sequence[Mapping[str, Any]]]) -> list[str]:
    """A request for each call."""
    return [orjson.dumps({"documents": call}).decode() for call in calls]


def compare(expected: str, got: str) -> SameOrNot:
    """Whether an answer is the engine's, byte for byte; or but for scores within 1e-3; or another."""
    if expected == got:
        return "same"
    want, have = orjson.loads(expected), orjson.loads(got)
    return "close" if _close(want, have) else "other"


def faults(answers: Mapping[str, int], beside_the_engine: Mapping[str, int], allowed: Set[str]) -> list[str]:
    """What should not be among the answers: statuses that are not allowed, words not the engine's."""
    found = [f"{count:,} x {status}" for status, count in answers.items() if status not in allowed]
    if other := beside_the_engine.get("other"):
        found.append(f"{other:,} answers that are not the engine's")
    return found


def _close(want: Any, have: Any) -> bool:
    if isinstance(want, float) and isinstance(have, float):
        return abs(want - have) <= _CLOSE
    if type(want) is not type(have):
        return False
    if isinstance(want, dict):
        return want.keys() == have.keys() and all(
            _close_labels(want[key], have[key]) if key == "labels" else _close(want[key], have[key])
            for key in want
        )
    if isinstance(want, list):
        return len(want) == len(have) and all(map(_close, want, have))
    return bool(want == have)


def _close_labels(want: Any, have: Any) -> bool:
    """Best first: two of nearly the same score may change places."""
    if want is None or have is None:
        return want is have
    return _close(*(sorted(labels, key=lambda label: str(label["label"])) for labels in (want, have)))
