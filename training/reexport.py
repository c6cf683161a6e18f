"""A model folder with its graph made again from its weights, for example quantised."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.forward import onnx_forward
from serving.model_folder import FILES, ModelFolder
from serving.results import Document
from training.corpus import AnnotatedDocument
from training.evaluate import read
from training.export import export_graph, fused_graph, write_graph
from training.gate import GateReport, compare
from training.manifest import rehash
from training.model import JointModel
from training.quantise import Calibration, quantise
from training.schema import schema_of_model
from training.weights import load_trained

_CALIBRATION_DOCUMENTS = 256


@dataclass(frozen=True, slots=True)
class Int8Data:
    """Documents that int8 needs: to measure the ranges of activations on, and to pass the gate."""

    calibration: Sequence[AnnotatedDocument]
    gate: Sequence[AnnotatedDocument]

    def sample(self) -> list[Document]:
        """Documents for calibration, spread over all of them."""
        step = max(1, -(-len(self.calibration) // _CALIBRATION_DOCUMENTS))
        return [document.document() for document in self.calibration[::step]]


def export_folder(folder: Path, target: Path, int8: Int8Data | None = None) -> GateReport | None:
    """Write `target`, a complete folder like `folder` with a new graph, fp32 or int8.

    Returns the gate's report for int8. Raises TrainingError if there are no weights, or if int8
    does not pass the gate; then nothing is left at `target`.
    """
    opened = ModelFolder.open(folder)
    if target.exists():
        raise TrainingError(f"{target} exists already; choose another folder with -o, or remove it.")
    model, _, _ = load_trained(opened)

    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    try:
        report = None
        if int8:
            report = _write_int8(model, opened, partial / FILES.graph, int8)
        else:
            export_graph(model, partial / FILES.graph)
        config = orjson.loads((partial / FILES.config).read_bytes())
        config["embargo"]["graph_variant"] = "int8" if int8 else "fp32"
        (partial / FILES.config).write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n")
        rehash(partial)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _write_int8(model: JointModel, opened: ModelFolder, path: Path, data: Int8Data) -> GateReport:
    """Write the quantised graph. Raises TrainingError without documents, or at the gate."""
    if not data.calibration or not data.gate:
        raise TrainingError(
            f"int8 got {len(data.calibration)} documents to measure ranges on and {len(data.gate)} for the "
            "gate, expected some of each; name corpus files with --calibration-data and --gate-data."
        )
    reference = Analyzer.load(opened)
    graph = fused_graph(model)
    calibration = Calibration(graph)
    Analyzer(opened.config, reference.tokenizer, calibration).read(data.sample())
    write_graph(quantise(graph, calibration.ranges), path)

    candidate = Analyzer(opened.config, reference.tokenizer, onnx_forward(path))
    schema = schema_of_model(opened.config)
    report = compare(reference, candidate, read(reference, data.gate, schema), schema)
    if not report.passed:
        raise TrainingError(f"{report.line()}: the gate is not passed, nothing was kept.")
    return report
