"""A system that answers at once, and fails on demand; run in worker processes by test_benchmarks.py."""

import os
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.protocol import Choice, Given
from serving.results import Analysis, Document, Entity, Label


class FakeSystem:
    """Marks the first three characters of every text. `fails` names how it goes wrong, and when."""

    packages = ("numpy",)

    def __init__(self, fails: str = "") -> None:
        self._fails = fails

    def choices(self, threads: int) -> Sequence[Choice]:
        return [{"threads": threads}]

    def load(self, given: Given, choice: Choice) -> None:
        if self._fails == "loading":
            raise ValueError("no such graph")

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        print("a library that prints where answers are expected")  # noqa: T201
        if self._fails == "crashing" and len(documents) > 4:
            os.write(2, b"out of memory\n")
            os._exit(3)
        if self._fails == "hanging":
            time.sleep(600)
        return [
            Analysis(
                document.id,
                labels=(Label("relief", "event", 0.9),),
                entities=(Entity("PERSON", 0, 3, document.text[:3], float("nan"), "text"),),
            )
            for document in documents
        ]

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64] | None:
        return None if self._fails == "labels" else np.ones((len(documents), 16))
