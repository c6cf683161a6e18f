"""The process of one system: JSON lines in, JSON lines out.

    python -m benchmarks.worker MODULE:CLASS SETTINGS

| request | answer |
|---|---|
| `{"do": "open", "given": {…}}` | `{"choices": […], "versions": {…}}` |
| `{"do": "take", "slice": "mixed_64", "calls": [[{"id", "title", "text"}]]}` | `{}` |
| `{"do": "use", "choice": {…}}` | `{"seconds": …}`, the time to load |
| `{"do": "read", "slice": "mixed_64"}` | `{"seconds": …, "peak_rss_bytes": …}`, measured here |
| `{"do": "answers", "slice": "dev"}` | `{"answers": […]}`, of each document |

An answer about a document is `{"id", "entities", "title_entities", "cats", "logits"}`. What fails is
answered by `{"error": "…"}`.
"""

import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from benchmarks import answering
from benchmarks.memory import Memory
from benchmarks.protocol import Given, System
from serving.results import Analysis, Document, Field


class Worker:
    """Answers requests about one system."""

    def __init__(self, place: str, settings: Mapping[str, Any]) -> None:
        self._place, self._settings = place, settings
        self._slices: dict[str, list[list[Document]]] = {}

    def open(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Bind the process to its CPUs, then import the system, whose threads inherit that."""
        threads = int(given["threads"])
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        paths = {name: Path(given[name]) for name in ("model", "graph", "calibration", "scratch")}
        self._given = Given(threads=threads, **paths)
        self._given.scratch.mkdir(parents=True, exist_ok=True)
        module, _, name = self._place.partition(":")
        self._system: System = getattr(importlib.import_module(module), name)(**self._settings)
        versions = {package: version(package) for package in self._system.packages}
        return {"choices": self._system.choices(threads), "versions": versions}

    def take(self, slice: str, calls: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """Keep documents to read, each list of them in one call."""
        self._slices[slice] = [[Document(**document) for document in call] for call in calls]
        return {}

    def use(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """Load the system in one of its setups."""
        began = time.perf_counter()
        self._system.load(self._given, choice)
        return {"seconds": time.perf_counter() - began}

    def read(self, slice: str) -> dict[str, Any]:
        """Read a slice and say how long it took."""
        began = time.perf_counter()
        for documents in self._slices[slice]:
            self._system.read(documents)
        return {"seconds": time.perf_counter() - began, "peak_rss_bytes": Memory.of().peak}

    def answers(self, slice: str) -> dict[str, Any]:
        """What the system says of each document of a slice."""
        documents = [document for call in self._slices[slice] for document in call]
        logits = self._system.label_logits(documents)
        return {
            "answers": [
                {
                    "id": analysis.id,
                    "entities": _spans(analysis, "text"),
                    "title_entities": _spans(analysis, "title"),
                    "cats": [label.label for label in analysis.labels or ()],
                    "logits": None if logits is None else logits[row].tolist(),
                }
                for row, analysis in enumerate(self._system.read(documents))
            ]
        }


def _spans(analysis: Analysis, field: Field) -> list[tuple[int, int, str]]:
    return [(e.start, e.end, e.type) for e in analysis.entities or () if e.field == field]


if __name__ == "__main__":
    answering.serve(Worker(sys.argv[1], orjson.loads(sys.argv[2])))
