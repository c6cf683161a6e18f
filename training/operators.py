"""The operators of a fused graph, chosen for a CPU.

What ONNX Runtime's optimiser makes of a BERT suits a GPU. On a CPU (measured on AVX2, docs/LOG.md):

- `SkipLayerNormalization` takes five times as long as the two additions and the layer norm that it
  stands for, because it is not vectorised;
- `Attention` keeps every score of a head in memory. `MultiHeadAttention` goes over them block by block
  (as FlashAttention does, Dao et al. 2022), but only without a mask. So windows of one pass have the
  same length, nothing is padded, and no window can see another (serving/scheduler.py).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
_EMBEDDING_INPUTS = 7
"""Of EmbedLayerNormalization, without the mask, which it only counts."""


def for_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, fused by ONNX Runtime, in operators that a CPU runs faster; it reads without a mask.

    A graph without fused attention still needs its mask and keeps it. Changes `model`.
    """
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Attention":
            replacement = _Attention(node, weights)
            graph.initializer.extend(replacement.constants())
            nodes.extend(replacement.nodes())
        elif node.op_type == "SkipLayerNormalization":
            nodes.extend(_layer_norm(node))
        else:
            if node.op_type == "EmbedLayerNormalization":
                del node.input[_EMBEDDING_INPUTS:]
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    prune(graph)
    return model


def prune(graph: onnx.GraphProto) -> None:
    """Drop nodes, constants and inputs that no output of `graph` needs."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [weight for weight in graph.initializer if weight.name in needed]
    inputs = [given for given in graph.input if given.name in needed]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    graph.input.extend(inputs)


class _Attention:
    """One fused Attention, taken apart: three products, their biases, and what is left."""

    def __init__(self, node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> None:
        self._node = node
        joint, bias = (numpy_helper.to_array(weights[name]) for name in node.input[1:3])
        self._weights = np.split(joint, 3, axis=1)
        self._biases = np.split(bias, 3)

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """Named as the encoder's other products are, so that they are quantised too."""
        for part in "qkv":
            product, added = self._name(part, "product"), self._name(part, "added")
            factors = [self._node.input[0], self._name(part, "weight")]
            yield helper.make_node("MatMul", factors, [product], name=f"/encoder/{product}")
            yield helper.make_node("Add", [product, self._name(part, "bias")], [added])
        yield helper.make_node(
            "MultiHeadAttention",
            [self._name(part, "added") for part in "qkv"],
            list(self._node.output[:1]),
            domain=MICROSOFT,
            num_heads=attribute(self._node, "num_heads"),
        )

    def constants(self) -> Iterator[onnx.TensorProto]:
        """What these nodes read beside the activations."""
        for part, weight, bias in zip("qkv", self._weights, self._biases, strict=True):
            yield constant(self._name(part, "weight"), weight)
            yield constant(self._name(part, "bias"), bias)

    def _name(self, part: str, what: str) -> str:
        return f"{self._node.name}_{part}_{what}"


def _layer_norm(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    product, skipped, scale, shift, bias = node.input
    biased, total = f"{node.output[0]}_biased", f"{node.output[0]}_sum"
    yield helper.make_node("Add", [product, bias], [biased])
    yield helper.make_node("Add", [biased, skipped], [total])
    yield helper.make_node(
        "LayerNormalization",
        [total, scale, shift],
        list(node.output[:1]),
        axis=-1,
        epsilon=attribute(node, "epsilon"),
    )


def attribute(node: onnx.NodeProto, name: str) -> int | float:
    """The value of an attribute that is a number."""
    value: int | float = next(helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return value


def constant(name: str, values: npt.NDArray[np.generic]) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.ascontiguousarray(values), name)
