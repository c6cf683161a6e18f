"""PyTorch to ONNX: fused for ONNX Runtime, weights stored in half the bytes.

The graph computes in fp32. Its large weights are stored as fp16 and widened once, when
the session is made; the same rounding is in `model.safetensors`, so both hold one model.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions

from serving.errors import TrainingError
from serving.forward import Batch, TokenOutputs
from training.model import JointModel
from training.operators import for_cpu

OPSET = 17
_HALVED_BYTES = 4096
"""Smaller tensors (biases, layer norms, constants) stay fp32: they save nothing."""


def export_graph(model: JointModel, path: Path) -> None:
    """Write the fused graph of `model`. Raises TrainingError if attention did not fuse."""
    write_graph(fused_graph(model), path)


def fused_graph(model: JointModel) -> onnx.ModelProto:
    """The graph of `model` in operators that suit a CPU, fp32. Raises as export_graph does."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        trace_graph(model, plain)
        fused = _fuse(model, plain)
    return for_cpu(fused) if model.encoder.config.model_type == "bert" else fused


def write_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Save a graph, its large weights in half the bytes. Changes `graph`."""
    _store_as_half(graph)
    onnx.save(graph, path)


def trace_graph(model: JointModel, path: Path) -> None:
    """Write the graph as PyTorch exports it: fp32, nothing fused."""
    model = model.cpu().eval()
    # The TorchScript exporter over eager attention: the one pattern that ONNX Runtime fuses.
    model.encoder.set_attn_implementation("eager")
    ids = torch.ones(2, 8, dtype=torch.int64)
    axes = {0: "windows", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, torch.zeros_like(ids), torch.ones_like(ids)),
            str(path),
            input_names=list(Batch._fields),
            output_names=list(TokenOutputs._fields),
            dynamic_axes={name: axes for name in (*Batch._fields, *TokenOutputs._fields)},
            opset_version=OPSET,
            dynamo=False,
        )


def _fuse(model: JointModel, plain: Path) -> onnx.ModelProto:
    config = model.encoder.config
    is_bert = config.model_type == "bert"
    options = FusionOptions("bert")
    fused = optimizer.optimize_model(
        str(plain),
        model_type="bert",
        num_heads=config.num_attention_heads if is_bert else 0,
        hidden_size=config.hidden_size if is_bert else 0,
        optimization_options=options,
        opt_level=0,
    )
    counts = fused.get_fused_operator_statistics()
    if is_bert and counts["Attention"] != config.num_hidden_layers:
        raise TrainingError(
            f"{counts['Attention']} of {config.num_hidden_layers} attention layers fused; the "
            "export needs the torch, transformers and onnxruntime versions of constraints.txt."
        )
    graph: onnx.ModelProto = fused.model
    if not any(opset.domain == "com.microsoft" for opset in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return graph


def _store_as_half(model: onnx.ModelProto) -> None:
    """Replace large fp32 weights that fp16 holds exactly, each behind a Cast that is folded at load."""
    graph = model.graph
    kept, casts = [], []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.nbytes < _HALVED_BYTES or not _fits_half(values):
            kept.append(weight)
            continue
        stored = f"{weight.name}_half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [weight.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def _fits_half(values: npt.NDArray[np.float32]) -> bool:
    """True of rounded weights; scales of quantisation need all their bits."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16) == values).all())


def fused_operators(path: Path) -> dict[str, int]:
    """How often each operator occurs in a graph."""
    counts: dict[str, int] = {}
    for node in onnx.load(path).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
