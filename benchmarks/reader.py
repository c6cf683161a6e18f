"""Our windows, heads and decoder around another runtime's forward passes.

So that runtimes are compared and nothing else: tokenising, cutting, putting together and decoding
are the functions that the engine calls.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving import shape
from serving.analyzer import Reading
from serving.decode import decode
from serving.errors import DocumentError
from serving.forward import Batch, TokenOutputs
from serving.model_folder import FILES, ModelFolder
from serving.results import Analysis, Document, Options
from serving.scheduler import micro_batches
from serving.tokens import Tokenizer, TokenStream
from serving.windows import Window

Cuts = Sequence[Sequence[Window]]
"""The windows of each document."""
Groups = Sequence[Sequence[tuple[int, Window]]]
"""Windows that run together: (document, window)."""
PADDED_TOKENS = 1024
"""Of a peer's batch of sorted windows: our own graph, while it padded, was a tenth faster than with 2,048."""
RunBatches = Callable[[Iterable[Batch]], Iterable[TokenOutputs]]
"""A runtime: padded batches in, what it says of every token out, in the same order."""


def in_order(cuts: Cuts, rows: int, padded_tokens: int | None = None) -> Groups:
    """Windows as they come: at most `rows` a batch, and `padded_tokens` if given."""
    groups: list[list[tuple[int, Window]]] = []
    width = 0
    for document, windows in enumerate(cuts):
        for window in windows:
            width = max(width, len(window))
            fits = groups and len(groups[-1]) < rows
            if fits and (padded_tokens is None or width * (len(groups[-1]) + 1) <= padded_tokens):
                groups[-1].append((document, window))
            else:
                groups.append([(document, window)])
                width = len(window)
    return groups


def by_length(cuts: Cuts, at_once: int) -> Groups:
    """Windows sorted into the engine's micro-batches; few are dealt out to `at_once` runners."""
    tokens = sum(len(window) for windows in cuts for window in windows)
    budget = max(1, min(PADDED_TOKENS, -(-tokens // at_once)))
    return [group.windows for group in micro_batches(cuts, budget)]


class EncoderReader:
    """Reads documents with a runtime that knows no more than one batch."""

    def __init__(self, model: Path, group: Callable[[Cuts], Groups], run: RunBatches) -> None:
        # The controller has checked the hashes.
        self._config = ModelFolder.open(model, verify=False).config
        self._tokenizer = Tokenizer.from_file(str(model / FILES.tokenizer))
        self._exclusive = self._config.label_set().exclusive()
        self._group, self._run = group, run

    def readings(self, documents: Sequence[Document]) -> list[Reading]:
        """What the model says of each document. Raises DocumentError at one that cannot be read."""
        streams: list[TokenStream] = []
        for stream in self._tokenizer.encode(documents):
            if isinstance(stream, DocumentError):
                raise stream
            streams.append(stream)
        windows = self._config.window_shape()
        cuts = [windows.cut(len(stream)) for stream in streams]
        groups = self._group(cuts)
        special = self._config.special_tokens
        batches = (Batch.of([(streams[document], window) for document, window in g], special) for g in groups)
        pieces: list[dict[int, TokenOutputs]] = [{} for _ in streams]
        for group, outputs in zip(groups, self._run(batches), strict=True):
            for row, (document, window) in enumerate(group):
                # 1: the outputs begin with [CLS].
                own = slice(1 + window.own_start - window.start, 1 + window.own_end - window.start)
                pieces[document][window.start] = TokenOutputs(*(part[row, own] for part in outputs))
        return [
            self._reading(stream, [pieces[number][window.start] for window in cuts[number]])
            for number, stream in enumerate(streams)
        ]

    def read(self, documents: Sequence[Document]) -> list[Analysis]:
        """Spans and labels, as the engine's `analyze` has them."""
        readings = self.readings(documents)
        spans = decode(
            [reading.tag_logits for reading in readings],
            [reading.stream for reading in readings],
            self._config.temperatures.spans,
        )
        labels, types, options = self._config.label_set(), self._config.type_names(), Options()
        return [
            Analysis(
                id=document.id,
                labels=shape.labels(reading.label_logits(), labels, options),
                entities=shape.entities(document, reading.stream, found, types, options),
                coverage=shape.coverage(reading.stream, reading.windows),
            )
            for document, reading, found in zip(documents, readings, spans, strict=True)
        ]

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        return np.array([reading.label_logits() for reading in self.readings(documents)])

    def _reading(self, stream: TokenStream, parts: Sequence[TokenOutputs]) -> Reading:
        outputs = TokenOutputs(*map(np.concatenate, zip(*parts, strict=True)))
        return Reading.of(stream, len(parts), outputs, self._exclusive)
