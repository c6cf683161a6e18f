"""A model folder with its graph made again from its weights: the same, or quantised."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.forward import OnnxForward
from serving.model_folder import FILES, ModelFolder
from serving.results import Document
from serving.tokens import Tokenizer
from training.corpus import AnnotatedDocument
from training.evaluate import read
from training.export import export_graph, fused_graph, write_graph
from training.folder import EvaluationSet
from training.gate import GateReport, compare
from training.manifest import Provenance, rehash
from training.model import JointModel
from training.quantise import Calibration, quantise
from training.recalibrate import recalibrate
from training.schema import schema_of_model
from training.weights import load_trained

_RANGE_DOCUMENTS = 256


@dataclass(frozen=True, slots=True)
class Int8Job:
    """What int8 needs: documents to measure ranges on, to pass the gate, to calibrate and measure on."""

    ranges: Sequence[AnnotatedDocument]
    """Documents that the ranges of activations are measured on, some of them."""
    gate: Sequence[AnnotatedDocument]
    sets: Sequence[EvaluationSet]
    """Measured for card and metrics; label thresholds are fitted anew on those that are dev sets."""
    files: Mapping[str, Sequence[Path]]
    """Where all these come from: ranges, gate, dev."""
    command: str

    def sample(self) -> list[Document]:
        """Documents for the ranges, spread over all of them."""
        step = max(1, -(-len(self.ranges) // _RANGE_DOCUMENTS))
        return [document.document() for document in self.ranges[::step]]


def export_again(folder: Path, target: Path) -> None:
    """Write `target`, like `folder` with its fp32 graph made again. Raises TrainingError if it cannot."""
    opened = _opened(folder, target)
    if opened.config.graph_variant != "fp32":
        raise TrainingError(
            f"{folder} is {opened.config.graph_variant}, its thresholds and card too; expected --int8 to "
            "make that graph again, or the fp32 folder it was made from."
        )
    model, _, _ = load_trained(opened)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    try:
        export_graph(model, partial / FILES.graph)
        rehash(partial)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def export_int8(
    folder: Path, target: Path, job: Int8Job
) -> tuple[GateReport, Mapping[str, Mapping[str, Any]]]:
    """Write `target`, the model of `folder` in int8, calibrated and measured as it ships.

    The gate sets it beside fp32 made of the same weights, so `folder` may be int8 already.

    Returns the gate's report and the metrics by data set. Raises TrainingError if there are no weights
    or documents, or if the gate is not passed; then nothing is left at `target`.
    """
    opened = _opened(folder, target)
    if not job.ranges or not job.gate:
        raise TrainingError(
            f"int8 got {len(job.ranges)} documents to measure ranges on and {len(job.gate)} for the gate, "
            "expected some of each; name corpus files with --ranges and --gate."
        )
    model, _, _ = load_trained(opened)
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / FILES.graph
        report = _quantise(model, opened, graph, job)
        if not report.passed:
            raise TrainingError(f"{report.line()}: the gate is not passed, nothing was kept.")
        provenance = Provenance.of_manifest(folder).remade(job.command, job.files)
        metrics = recalibrate(folder, target, job.sets, provenance, int8_graph=graph)
    return report, metrics


def _opened(folder: Path, target: Path) -> ModelFolder:
    if target.exists():
        raise TrainingError(f"{target} exists already; choose another folder with -o, or remove it.")
    return ModelFolder.open(folder)


def _quantise(model: JointModel, opened: ModelFolder, path: Path, job: Int8Job) -> GateReport:
    """Write the quantised graph to `path` and set it beside the one that it was made of."""
    tokenizer = Tokenizer.from_file(str(opened.path / FILES.tokenizer))
    graph = fused_graph(model)
    calibration = Calibration(graph)
    Analyzer(opened.config, tokenizer, calibration).read(job.sample())
    quantised = quantise(graph, calibration.ranges)
    plain = path.with_suffix(".fp32.onnx")
    write_graph(graph, plain)
    write_graph(quantised, path)

    reference, candidate = (Analyzer(opened.config, tokenizer, OnnxForward(made)) for made in (plain, path))
    schema = schema_of_model(opened.config)
    return compare(reference, candidate, read(reference, job.gate, schema), schema)
