"""Who is measured: Embargo's own models first, then its peers with the checkpoint of the first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from serving.errors import EmbargoError

OWN = "embargo"
"""How the names of Embargo's own systems begin."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One system in the line-up."""

    name: str
    about: str
    """How it is set up, for the report."""
    place: str
    """MODULE:CLASS of the system."""
    model: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    requirements: str | None = None
    """The file in requirements/ with its pins; None where this project's environment does."""
    one_thread: bool = False
    """Measured on a single thread, for scaling alone."""
    before: Callable[[], object] | None = None
    """What the controller must do first; raises SystemFailed if it cannot."""

    @property
    def is_own(self) -> bool:
        """True for Embargo's own."""
        return self.name.startswith(OWN)


def line_up(own: Sequence[Path], spacy_model: Path, train_spacy: Callable[[], object]) -> list[Entry]:
    """Everyone. `own`: model folders of Embargo; peers read the first one's checkpoint.

    `train_spacy` sees to it that `spacy_model` is there. Raises EmbargoError where two folders
    have one name: their figures would be taken for one system's.
    """
    for path, other in combinations(own, 2):
        if path.name == other.name:
            raise EmbargoError(f"{path} and {other} have one name; expected folders of different names.")
    base = own[0]
    engine = "benchmarks.systems.engine:Engine"
    ours = [Entry(_name(path), "this project's engine", engine, path) for path in own]
    one = Entry(f"{_name(base)}, 1 thread", "for scaling", engine, base, one_thread=True)
    runtime = "benchmarks.systems.onnx_runtime:OnnxRuntime"
    encoder = "benchmarks.systems.ctranslate2_encoder:CTranslate2Encoder"
    compiled = "benchmarks.systems.openvino_model:OpenVinoModel"
    return [
        *ours,
        one,
        Entry(
            "transformers pipeline",
            "token-classification, PyTorch fp32, best batch size; its own windows and decoder, "
            "no document head; token types from our tokenizer",
            "benchmarks.systems.transformers_pipeline:TransformersPipeline",
            base,
        ),
        Entry(
            "onnxruntime",
            "the graph as exported, fp32, windows in order of arrival, padded, best batch size",
            runtime,
            base,
        ),
        Entry(
            "optimum-onnx int8",
            "as onnxruntime, the graph quantised dynamically by optimum-onnx for this CPU",
            "benchmarks.systems.optimum_int8:OptimumInt8",
            base,
            requirements="optimum",
        ),
        Entry(
            "ctranslate2 fp32",
            "Encoder.forward_batch, sorted micro-batches, best inter x intra threads, heads in NumPy",
            encoder,
            base,
            {"compute_type": "float32"},
            "ctranslate2",
        ),
        Entry("ctranslate2 int8", "as above, int8", encoder, base, {"compute_type": "int8"}, "ctranslate2"),
        Entry(
            "openvino fp32",
            "async queue, sorted micro-batches, best of the THROUGHPUT and LATENCY hints",
            compiled,
            base,
            {"int8": False},
            "openvino",
        ),
        Entry(
            "openvino int8",
            "as above, weights and activations quantised by nncf",
            compiled,
            base,
            {"int8": True},
            "openvino",
        ),
        Entry(
            "text-embeddings-inference",
            "an emulation of its policy on CPUs over onnxruntime: a queue in order of arrival, padded, "
            "at most 16,384 tokens and the better of 4 and 8 rows a batch",
            runtime,
            base,
            {"rows": [4, 8], "padded_tokens": 16_384},
        ),
        Entry(
            "spaCy CNN",
            "ner and textcat_multilabel trained on the same corpora, best number of processes; memory is "
            "that of the first process alone",
            "benchmarks.systems.spacy_cnn:SpacyCnn",
            base,
            {"pipeline": str(spacy_model)},
            before=train_spacy,
        ),
    ]


def _name(model: Path) -> str:
    """A released model's own name says whose it is."""
    return model.name if model.name.startswith(OWN) else f"{OWN} {model.name}"
