"""OpenVINO: the exported graph compiled for the CPU, fed through its asynchronous queue."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from benchmarks.converted import made_once
from benchmarks.protocol import Choice, Given
from benchmarks.reader import EncoderReader, by_length
from serving.errors import DocumentError
from serving.forward import Batch, TokenOutputs
from serving.model_folder import FILES, ModelFolder
from serving.results import Analysis, Document
from serving.tokens import Tokenizer
from training.corpus import read_corpus

_CALIBRATION_DOCUMENTS = 150
_GRAPH = "model.xml"


class OpenVinoModel:
    """Sorted micro-batches on as many streams as the hint gives; int8 by nncf's quantisation."""

    packages = ("openvino", "nncf", "numpy")

    def __init__(self, int8: bool) -> None:
        self._int8 = int8

    def choices(self, threads: int) -> Sequence[Choice]:
        """OpenVINO's own two hints."""
        return [{"hint": "THROUGHPUT"}, {"hint": "LATENCY"}]

    def load(self, given: Given, choice: Choice) -> None:
        """Quantise once a checkpoint if need be, then compile."""
        graph = _quantised(given) if self._int8 else given.graph
        settings = {
            "PERFORMANCE_HINT": str(choice["hint"]),
            "INFERENCE_NUM_THREADS": given.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # not bfloat16 where the CPU has it
        }
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self._queue = openvino.AsyncInferQueue(compiled)
        self._queue.set_callback(_keep)
        self._reader = EncoderReader(given.model, partial(by_length, at_once=len(self._queue)), self._run)

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """Labels and entities."""
        return self._reader.read(documents)

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        return self._reader.label_logits(documents)

    def _run(self, batches: Iterable[Batch]) -> Iterator[TokenOutputs]:
        done: dict[int, TokenOutputs] = {}
        count = 0
        for count, batch in enumerate(batches, start=1):
            self._queue.start_async(batch._asdict(), (done, count - 1))
        self._queue.wait_all()
        return (done[number] for number in range(count))


def _keep(request: Any, where: tuple[dict[int, TokenOutputs], int]) -> None:
    """A request's memory serves the next one: copy."""
    done, number = where
    done[number] = TokenOutputs(*(request.get_tensor(name).data.copy() for name in TokenOutputs._fields))


def _quantised(given: Given) -> Path:
    """Weights and activations in int8, calibrated on windows of training documents."""
    import nncf

    def quantise(target: Path) -> None:
        windows = [batch._asdict() for batch in _calibration(given)]
        quantised = nncf.quantize(
            openvino.Core().read_model(given.graph),
            nncf.Dataset(windows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(windows),
        )
        openvino.save_model(quantised, target / _GRAPH, compress_to_fp16=False)

    return made_once(given.scratch / f"openvino-int8-nncf-{nncf.__version__}", quantise) / _GRAPH


def _calibration(given: Given) -> Iterator[Batch]:
    """One window a batch."""
    config = ModelFolder.open(given.model, verify=False).config
    tokenizer = Tokenizer.from_file(str(given.model / FILES.tokenizer))
    documents = islice(read_corpus(given.calibration), _CALIBRATION_DOCUMENTS)
    for stream in tokenizer.encode([document.document() for document in documents]):
        if not isinstance(stream, DocumentError):
            window = config.window_shape().cut(len(stream))[0]
            yield Batch.of([(stream, window)], config.special_tokens)
