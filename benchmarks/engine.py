"""The process in which the engine reads what the service is asked to read.

    python -m benchmarks.engine

| request | answer |
|---|---|
| `{"do": "open", "cpus": [0], "model": "models/…"}` | `{}` |
| `{"do": "take", "slice": "batches", "calls": [[{"id", "title", "text"}]]}` | `{}` |
| `{"do": "read", "slice": "batches", "callers": 2}` | `{"seconds": …}` |
| `{"do": "one", "slice": "batches", "number": 0}` | `{"seconds": …}`, of one call |
| `{"do": "bodies", "slice": "batches"}` | `{"bodies": […]}`, as the service words them |
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import answering
from serving.results import Document


class Engine:
    """Calls the analyzer from as many threads as it is told to."""

    def open(self, cpus: Sequence[int], model: str) -> dict[str, Any]:
        """Bind the process to its CPUs, then load the model, whose threads inherit that."""
        os.sched_setaffinity(0, cpus)
        # Not before: libraries count CPUs when they are imported.
        from serving.analyzer import Analyzer
        from serving.model_folder import ModelFolder

        self._folder = ModelFolder.open(Path(model))
        self._analyzer = Analyzer.load(self._folder)
        self._calls: dict[str, list[list[Document]]] = {}
        return {}

    def take(self, slice: str, calls: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """Keep documents to read, each list of them in one call."""
        self._calls[slice] = [[Document(**document) for document in call] for call in calls]
        return {}

    def read(self, slice: str, callers: int) -> dict[str, Any]:
        """Every call once, by so many callers at a time."""
        with ThreadPoolExecutor(callers) as threads:
            list(threads.map(time.sleep, [0.0] * callers))  # threads are there before the clock runs
            began = time.perf_counter()
            list(threads.map(self._analyzer.analyze, self._calls[slice]))
            return {"seconds": time.perf_counter() - began}

    def one(self, slice: str, number: int) -> dict[str, Any]:
        """One call, nobody else calling."""
        documents = self._calls[slice][number]
        began = time.perf_counter()
        self._analyzer.analyze(documents)
        return {"seconds": time.perf_counter() - began}

    def bodies(self, slice: str) -> dict[str, Any]:
        """What the service should answer to each call."""
        from serving import api

        answers = [self._analyzer.analyze(documents) for documents in self._calls[slice]]
        return {"bodies": [api.response_body(self._folder, analyses).decode() for analyses in answers]}


if __name__ == "__main__":
    answering.serve(Engine())
