"""ONNX Runtime as most people call it: a padded batch at a time, all threads on each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.protocol import Choice, Given
from benchmarks.reader import EncoderReader, in_order
from serving.forward import Batch, TokenOutputs
from serving.results import Analysis, Document


class OnnxRuntime:
    """Windows in order of arrival, `rows` at most in a batch, `padded_tokens` if given.

    With `rows` of 4 or 8 and 16,384 tokens this is the policy of text-embeddings-inference on CPUs.
    """

    packages = ("onnxruntime", "tokenizers", "numpy")

    def __init__(self, rows: Sequence[int] = (1, 8, 32), padded_tokens: int | None = None) -> None:
        self._rows, self._padded_tokens = rows, padded_tokens

    def choices(self, threads: int) -> Sequence[Choice]:
        """Rows a batch."""
        return [{"rows": rows} for rows in self._rows]

    def load(self, given: Given, choice: Choice) -> None:
        """A session with the runtime's default settings, but for its number of threads."""
        group = partial(in_order, rows=int(choice["rows"]), padded_tokens=self._padded_tokens)
        self._reader = EncoderReader(given.model, group, session_runner(self.graph(given), given.threads))

    def graph(self, given: Given) -> Path:
        """The file to run."""
        return given.graph

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """Labels and entities."""
        return self._reader.read(documents)

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        return self._reader.label_logits(documents)


def session_runner(graph: Path, threads: int) -> Callable[[Iterable[Batch]], Iterator[TokenOutputs]]:
    """Runs batches one after another."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(graph), sess_options=options, providers=["CPUExecutionProvider"]
    )

    def run(batches: Iterable[Batch]) -> Iterator[TokenOutputs]:
        for batch in batches:
            yield TokenOutputs(*session.run(TokenOutputs._fields, batch._asdict()))

    return run
