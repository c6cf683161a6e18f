"""A model folder with its graph made again from its weights, for example quantised."""

import os
import shutil
from pathlib import Path

import orjson

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.forward import onnx_forward
from serving.model_folder import FILES, ModelFolder
from training.corpus import AnnotatedDocument
from training.evaluate import read
from training.export import Variant, export_graph
from training.gate import GateReport, compare
from training.manifest import rehash
from training.weights import load_trained


def export_folder(
    folder: Path, target: Path, variant: Variant, gate_documents: list[AnnotatedDocument]
) -> GateReport | None:
    """Write `target`, a complete folder like `folder` with a new graph; the gate's report for int8.

    Raises TrainingError if there are no weights, or if int8 does not pass the gate; then nothing
    is left at `target`.
    """
    opened = ModelFolder.open(folder)
    if target.exists():
        raise TrainingError(f"{target} exists already; choose another folder with -o, or remove it.")
    model, _, schema = load_trained(opened)

    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    try:
        export_graph(model, partial / FILES.graph, variant)
        report = None
        if variant == "int8":
            reference = Analyzer.load(opened)
            graph = onnx_forward(partial / FILES.graph)
            candidate = Analyzer(opened.config, reference.tokenizer, graph)
            report = compare(reference, candidate, read(reference, gate_documents, schema), schema)
            if not report.passed:
                raise TrainingError(f"{report.line()}: the gate is not passed, nothing was kept.")
        config = orjson.loads((partial / FILES.config).read_bytes())
        config["embargo"]["graph_variant"] = variant
        (partial / FILES.config).write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n")
        rehash(partial)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report
