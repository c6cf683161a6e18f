"""What every measured system can do, and what its process and the controller say to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.errors import EmbargoError
from serving.results import Analysis, Document

Choice = Mapping[str, int | str]
"""One way to set a system up, such as {"batch": 8}."""


class SystemFailed(EmbargoError):
    """A system cannot be installed, started or measured; the others go on."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a system gets to load."""

    model: Path
    """The model folder, with `model.safetensors`."""
    graph: Path
    """The same checkpoint as PyTorch exports it: fp32, not fused, `model.onnx`'s inputs and outputs."""
    calibration: Path
    """A corpus file for systems that quantise with activations in view."""
    scratch: Path
    """A folder for what the system makes of the checkpoint; kept from run to run."""
    threads: int
    """The budget. The process is bound to as many CPUs."""


class System(Protocol):
    """A way to read documents with a checkpoint. Its settings are keyword arguments of its class."""

    packages: tuple[str, ...]
    """Distributions whose versions belong into the report."""

    def choices(self, threads: int) -> Sequence[Choice]:
        """The setups worth trying within a budget; the fastest is measured."""

    def load(self, given: Given, choice: Choice) -> None:
        """Get ready to read; may be called again with another choice."""

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """What users of the system call: text in, spans and labels out. This is what is timed."""

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64] | None:
        """What label thresholds are cross-fitted on; None without a document head.

        *Shape:* (documents, labels), in the order of the model folder's config.
        """
