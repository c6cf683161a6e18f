"""The engine: window -> run -> decode -> shape, for any number of documents at once."""

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving import decode, document_head, shape
from serving.calls import Cancellation, Observer, Silent
from serving.errors import DocumentError
from serving.forward import Forward, OnnxForward, TokenOutputs, available_cpus
from serving.model_folder import FILES, EmbargoConfig, ModelFolder
from serving.results import Analysis, Document, Label, Options, Problem
from serving.run import PADDED_TOKENS, Runner
from serving.tokens import Tokenizer, TokenStream

_DECODED_TOGETHER = 8192
"""Tokens; numpy's calls are then long enough, and threads do not wait for them."""

_ENCODED_TOGETHER = 256 * 1024
"""Characters; beyond it others may cut their texts first."""


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

    @classmethod
    def of(
        cls, stream: TokenStream, windows: int, outputs: TokenOutputs, exclusive: Sequence[int]
    ) -> "Reading":
        """From what all its windows gave. `exclusive`: labels that stand alone."""
        weights = document_head.attention(outputs.label_scores, outputs.label_values, exclusive)
        return cls(stream, windows, outputs.tag_logits, weights, outputs.label_values)

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
        padded_tokens: int = PADDED_TOKENS,
        observer: Observer | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.run = Runner(
            forward,
            config.window_shape(),
            config.special_tokens,
            threads=threads,
            padded_tokens=padded_tokens,
            observer=observer,
        )
        self._observer = observer or Silent()
        # Callers may be many. As many of them as there are CPUs cut text and shape results at a
        # time, so that they do not keep the interpreter from the threads that run the graph.
        self._python = threading.BoundedSemaphore(self.run.scheduler.threads)
        self._labels = config.label_set()
        self._types = config.type_names()

    @classmethod
    def load(
        cls, folder: ModelFolder, *, threads: int | None = None, observer: Observer | None = None
    ) -> "Analyzer":
        """Load the graph and the tokenizer of an opened model folder."""
        threads = threads or available_cpus()
        return cls(
            folder.config,
            Tokenizer.from_file(str(folder.path / FILES.tokenizer)),
            OnnxForward(Path(folder.path / FILES.graph), threads),
            threads=threads,
            observer=observer,
        )

    def with_config(self, config: EmbargoConfig) -> "Analyzer":
        """The same graph under other thresholds, temperatures or limits."""
        other = copy.copy(self)
        other.config = config
        other._labels = config.label_set()
        return other

    def read(self, documents: Sequence[Document], *, alone: bool = False) -> list[Reading | DocumentError]:
        """Tokenise and run; one reading or one error a document, in order. `alone`: as `readings` has it."""
        readings = dict(self.readings(documents, alone=alone))
        return [readings[number] for number in range(len(documents))]

    def readings(
        self,
        documents: Sequence[Document],
        *,
        alone: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Iterator[tuple[int, Reading | DocumentError]]:
        """Each document's number and its reading or error, in the order in which they are done.

        `alone`: in micro-batches of these documents only, always cut in the same way.
        """
        streams = self._streams(documents, cancellation or Cancellation())
        read = [number for number, stream in enumerate(streams) if isinstance(stream, TokenStream)]
        job = self.run.submit([s for s in streams if isinstance(s, TokenStream)], alone=alone)
        if cancellation:
            cancellation.watch(self.run.scheduler, job)
        try:
            for number, stream in enumerate(streams):
                if isinstance(stream, DocumentError):
                    yield number, stream
            exclusive = self._labels.exclusive()
            for at, output in self.run.outputs(job):
                yield read[at], Reading.of(job.streams[at], len(job.cuts[at]), output, exclusive)
        finally:  # whoever stops listening takes what has not begun out of the line
            self.run.cancel(job)

    def spans(self, readings: Sequence[Reading]) -> list[list[decode.TokenSpan]]:
        """The best legal spans of each reading."""
        return decode.decode(
            [reading.tag_logits for reading in readings],
            [reading.stream for reading in readings],
            self.config.temperatures.spans,
        )

    def analyze(
        self,
        documents: Sequence[Document],
        options: Options | None = None,
        *,
        alone: bool = False,
        cancellation: Cancellation | None = None,
    ) -> list[Analysis]:
        """Labels and entities of each document, in order; a bad one carries its error.

        Documents are decoded while others run. `alone`: as `readings` has it. Raises AbandonedError
        if the call is given up.
        """
        asked = options or Options()
        analyses: dict[int, Analysis] = {}
        waiting: list[tuple[int, Reading]] = []
        tokens = 0
        for number, reading in self.readings(documents, alone=alone, cancellation=cancellation):
            if isinstance(reading, DocumentError):
                problem = Problem(reading.code, reading.message)
                analyses[number] = Analysis(id=documents[number].id, error=problem)
                continue
            waiting.append((number, reading))
            tokens += len(reading.stream)
            if tokens >= _DECODED_TOGETHER:
                analyses.update(self._shaped(documents, waiting, asked))
                waiting, tokens = [], 0
        analyses.update(self._shaped(documents, waiting, asked))
        return [analyses[number] for number in range(len(documents))]

    def _shaped(
        self, documents: Sequence[Document], read: Sequence[tuple[int, Reading]], options: Options
    ) -> dict[int, Analysis]:
        """Results of documents that have been read, decoded together."""
        with self._python:
            spans = self.spans([reading for _, reading in read]) if options.entities else [()] * len(read)
            return {
                number: self._result(documents[number], reading, found, options)
                for (number, reading), found in zip(read, spans, strict=True)
            }

    def _result(
        self, document: Document, reading: Reading, spans: Sequence[decode.TokenSpan], options: Options
    ) -> Analysis:
        labels = self._shape_labels(document, reading, options) if options.labels else None
        entities = None
        if options.entities:
            entities = shape.entities(document, reading.stream, spans, self._types, options)
        coverage = shape.coverage(reading.stream, reading.windows)
        return Analysis(id=document.id, labels=labels, entities=entities, coverage=coverage)

    def _streams(
        self, documents: Sequence[Document], cancellation: Cancellation
    ) -> list[TokenStream | DocumentError]:
        too_long = [self._too_long(document) for document in documents]
        fitting = [d for d, problem in zip(documents, too_long, strict=True) if problem is None]
        encoded: list[TokenStream | DocumentError] = []
        seconds = 0.0
        for part in _slices(fitting):  # between slices others get their turn
            with self._python:
                cancellation.check()
                begun = time.perf_counter()
                encoded += self.tokenizer.encode(part)
                seconds += time.perf_counter() - begun
        self._observer.tokenised(len(fitting), seconds)
        cancellation.check()
        streams = iter(encoded)
        return [problem or next(streams) for problem in too_long]

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


def _slices(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Documents in order, in slices that end with the one that fills them."""
    part: list[Document] = []
    characters = 0
    for document in documents:
        part.append(document)
        characters += len(document.text) + len(document.title or "")
        if characters >= _ENCODED_TOGETHER:
            yield part
            part, characters = [], 0
    if part:
        yield part
