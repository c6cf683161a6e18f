"""The engine: window -> run -> decode -> shape, for any number of documents at once."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving import decode, document_head, shape
from serving.errors import DocumentError
from serving.model_folder import FILES, EmbargoConfig, ModelFolder
from serving.results import Analysis, Document, Label, Options, Problem
from serving.run import Forward, Runner, onnx_forward
from serving.tokens import Tokenizer, TokenStream


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says of one document, before thresholds and shaping."""

    stream: TokenStream
    windows: int
    tag_logits: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float64]
    """How much each token counts for each label. *Shape:* (tokens, labels)."""
    values: npt.NDArray[np.float32]
    """What each token says of each label. *Shape:* (tokens, labels)."""

    def label_logits(self) -> npt.NDArray[np.float64]:
        """*Shape:* (labels,)."""
        return np.asarray((self.attention * self.values).sum(axis=0), dtype=np.float64)


class Analyzer:
    """A loaded model. Safe to call from many threads; holds no state of a document."""

    def __init__(
        self,
        config: EmbargoConfig,
        tokenizer: Tokenizer,
        forward: Forward,
        *,
        threads: int | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.run = Runner(forward, config.window_shape(), config.special_tokens, threads=threads)
        self._labels = config.label_set()
        self._types = config.type_names()

    @classmethod
    def load(cls, folder: ModelFolder, *, threads: int | None = None) -> "Analyzer":
        """Load the graph and the tokenizer of an opened model folder."""
        return cls(
            folder.config,
            Tokenizer.from_file(str(folder.path / FILES.tokenizer)),
            onnx_forward(Path(folder.path / FILES.graph)),
            threads=threads,
        )

    def with_config(self, config: EmbargoConfig) -> "Analyzer":
        """The same graph under other thresholds, temperatures or limits."""
        other = copy.copy(self)
        other.config = config
        other._labels = config.label_set()
        return other

    def read(self, documents: Sequence[Document]) -> list[Reading | DocumentError]:
        """Tokenise and run; one reading or one error a document, in order."""
        too_long = [self._too_long(document) for document in documents]
        fitting = [d for d, problem in zip(documents, too_long, strict=True) if problem is None]
        encoded = iter(self.tokenizer.encode(fitting))
        streams = [problem or next(encoded) for problem in too_long]
        outputs, windows = self.run([s for s in streams if isinstance(s, TokenStream)])
        results = iter(zip(outputs, windows, strict=True))
        readings: list[Reading | DocumentError] = []
        for stream in streams:
            if isinstance(stream, DocumentError):
                readings.append(stream)
                continue
            output, count = next(results)
            weights = document_head.attention(output.label_scores)
            readings.append(Reading(stream, count, output.tag_logits, weights, output.label_values))
        return readings

    def spans(self, readings: Sequence[Reading]) -> list[list[decode.TokenSpan]]:
        """The best legal spans of each reading."""
        return decode.decode(
            [reading.tag_logits for reading in readings],
            [reading.stream for reading in readings],
            self.config.temperatures.spans,
        )

    def analyze(self, documents: Sequence[Document], options: Options | None = None) -> list[Analysis]:
        """Labels and entities of each document, in order; a bad one carries its error."""
        asked = options or Options()
        readings = self.read(documents)
        good = [reading for reading in readings if isinstance(reading, Reading)]
        spans = iter(self.spans(good) if asked.entities else [])
        analyses = []
        for document, reading in zip(documents, readings, strict=True):
            if isinstance(reading, DocumentError):
                problem = Problem(reading.code, reading.message)
                analyses.append(Analysis(id=document.id, error=problem))
                continue
            labels = entities = None
            if asked.labels:
                labels = self._shape_labels(document, reading, asked)
            if asked.entities:
                found = next(spans)
                entities = shape.entities(document, reading.stream, found, self._types, asked)
            read = shape.coverage(reading.stream, reading.windows)
            analyses.append(Analysis(id=document.id, labels=labels, entities=entities, coverage=read))
        return analyses

    def _shape_labels(self, document: Document, reading: Reading, options: Options) -> tuple[Label, ...]:
        labels = shape.labels(reading.label_logits(), self._labels, options)
        if not options.evidence:
            return labels
        by_sentence = shape.SentenceEvidence(document, reading.stream, options)
        columns = [self._labels.names.index(label.label) for label in labels]
        return tuple(
            replace(label, evidence=by_sentence(reading.attention[:, k], reading.values[:, k]))
            for label, k in zip(labels, columns, strict=True)
        )

    def _too_long(self, document: Document) -> DocumentError | None:
        limit = self.config.limits.max_characters
        length = max(len(document.text), len(document.title or ""))
        if length <= limit:
            return None
        return DocumentError(
            "too_long",
            f"The document has {length} characters, at most {limit} are read; "
            "split it, for example at chapters, and send the parts.",
        )
