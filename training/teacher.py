"""Teachers: trained models whose mean opinion of a text stands in for annotation it lacks.

Several models together are right more often than each, and what they say of text that nobody
annotated teaches a student, of the same size or smaller, most of what they know (distillation).
They read through the serving engine, so that any model folder can teach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from serving.analyzer import Analyzer, Reading
from serving.document_head import probabilities
from serving.errors import DocumentError, TrainingError
from serving.model_folder import FILES, ModelFolder
from serving.results import Document
from serving.tokens import TokenStream
from training.schema import Schema
from training.weights import torch_analyzer

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """Probabilities in the place of gold."""

    tags: Float32
    """*Shape:* (tokens, tags)."""
    labels: Float32
    """*Shape:* (labels,)."""


@dataclass(frozen=True, slots=True)
class Teachers:
    """Models that give soft targets together."""

    analyzers: Sequence[Analyzer]

    @classmethod
    def load(cls, folders: Sequence[str], schema: Schema, device: torch.device) -> "Teachers":
        """Raises TrainingError at a model of other types or labels than `schema`.

        On a GPU they read there, and need their weights; on a CPU as they are served.
        """
        analyzers = []
        for folder in folders:
            opened = ModelFolder.open(Path(folder))
            names = opened.config.type_names(), opened.config.label_set().names
            if names != (tuple(schema.types), tuple(schema.labels)):
                raise TrainingError(
                    f"the teacher {folder} has other types or labels than the corpus; expected a model "
                    "trained with the same schema."
                )
            is_served = device.type == "cpu"
            analyzers.append(Analyzer.load(opened) if is_served else torch_analyzer(opened, device))
        return cls(analyzers)

    def __call__(self, documents: Sequence[Document], streams: Sequence[TokenStream]) -> list[SoftTargets]:
        """Soft targets of each document, for the tokens that the student sees (`streams`)."""
        # Alone: a run that goes on after a kill must learn from the same bits.
        readings = [analyzer.read(documents, alone=True) for analyzer in self.analyzers]
        return [
            _mean([_same_tokens(reading, stream) for reading in of_document])
            for stream, *of_document in zip(streams, *readings, strict=True)
        ]


def teacher_files(folders: Sequence[str]) -> list[Path]:
    """The file of each teacher that names all its others by hash."""
    return [Path(folder) / FILES.manifest for folder in folders]


def _same_tokens(reading: Reading | DocumentError, stream: TokenStream) -> Reading:
    if isinstance(reading, DocumentError):
        raise TrainingError(f"a teacher cannot read an unlabelled document: {reading.message}")
    if not np.array_equal(reading.stream.ids, stream.ids):
        raise TrainingError(
            "a teacher cuts text into other tokens than the student; expected models of one tokenizer."
        )
    return reading


def _mean(readings: Sequence[Reading]) -> SoftTargets:
    # Not calibrated: the student's logits are to be the teachers', weights of rare labels included.
    tags = np.mean([_softmax(reading.tag_logits) for reading in readings], axis=0)
    labels = np.mean([probabilities(reading.label_logits(), 1.0) for reading in readings], axis=0)
    return SoftTargets(tags.astype(np.float32), labels.astype(np.float32))


def _softmax(logits: Float32) -> Float32:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)
