"""Embargo itself, in process."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.protocol import Choice, Given
from serving.analyzer import Analyzer, Reading
from serving.model_folder import ModelFolder
from serving.results import Analysis, Document


class Engine:
    """The analyzer as the service runs it; nothing to choose."""

    packages = ("onnxruntime", "tokenizers", "numpy")

    def choices(self, threads: int) -> Sequence[Choice]:
        """One."""
        return [{}]

    def load(self, given: Given, choice: Choice) -> None:
        """As `embargo serve` does."""
        self._analyzer = Analyzer.load(ModelFolder.open(given.model), threads=given.threads)

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """Labels and entities."""
        return self._analyzer.analyze(documents)

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        readings = self._analyzer.read(documents)
        return np.array([r.label_logits() for r in readings if isinstance(r, Reading)])
