"""A graph in int8 whose answers do not depend on what a document is batched with.

Weights become int8 with a scale a column; what they are multiplied with becomes uint8 in one
fixed range a tensor, measured on documents when the model is exported. Dynamic quantisation takes
that range from each batch instead, so that batch mates change an answer (onnxruntime#10111).
The library's own static quantisation knows no products that stay fp32 outside.

A few channels reach ten times as far as all others and would take the range for themselves.
The loudest eight of each product are multiplied apart, in fp32 (as LLM.int8() does, Dettmers et al.
2022, but always the same ones); the others are divided by constants, and the weights that read them
multiplied with the same (SmoothQuant, Xiao et al. 2022). What attention begins with has the latter
alone. Embeddings, softmax, GELU (the one with tanh), layer norms and heads stay fp32.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from serving.forward import Batch, TokenOutputs, session_of
from training.operators import MICROSOFT, constant, prune

Float32 = npt.NDArray[np.float32]

_WEIGHT_LIMIT = 63
"""Of 127: without VNNI, U8S8 adds pairs of products in 16 bits and would saturate (onnxruntime#6004)."""
_LOUD = 8
"""Channels of a product that stay fp32: the noise in label logits falls by half or more (docs/LOG.md)."""
_SMOOTHING = 0.8
"""How much of the loudness of a channel its weights take over."""


@dataclass(frozen=True, slots=True)
class ChannelRange:
    """The least and the greatest value of each channel of a tensor. *Shape:* (channels,) both."""

    low: Float32
    high: Float32

    def joined(self, other: "ChannelRange") -> "ChannelRange":
        """The range of both."""
        return ChannelRange(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def reach(self) -> Float32:
        """The greatest absolute value of each channel. *Shape:* (channels,)."""
        return np.maximum(self.high, -self.low)


class Calibration:
    """A forward pass that remembers the ranges of what the products of the encoder read.

    It stands in the engine's place of the graph; the windows that are run are the sample.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        self._read = list(dict.fromkeys(node.input[0] for node in _products(watched.graph)))
        watched.graph.output.extend(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._read
        )
        self._session = session_of(watched.SerializeToString())
        self._lock = threading.Lock()
        self.ranges: dict[str, ChannelRange] = {}
        """By tensor, over all batches so far. As it does not say that it pads, no window is padded."""

    def __call__(self, batch: Batch) -> TokenOutputs:
        """Run and remember."""
        outputs = self._session.run([*TokenOutputs._fields, *self._read], batch.feed(self._session))
        own = len(TokenOutputs._fields)
        for name, values in zip(self._read, outputs[own:], strict=True):
            seen = ChannelRange(values.min(axis=(0, 1)), values.max(axis=(0, 1)))
            with self._lock:
                self.ranges[name] = self.ranges.get(name, seen).joined(seen)
        return TokenOutputs(*outputs[:own])


def quantise(model: onnx.ModelProto, ranges: Mapping[str, ChannelRange]) -> onnx.ModelProto:
    """`model` with its encoder's products in int8. `ranges`: of a Calibration of the same graph."""
    graph = model.graph
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    biases = _biases(graph, weights)
    activations: dict[str, _Activation] = {}
    products: dict[str, _Product] = {}
    for name, readers in _readers(graph).items():
        joint = np.concatenate([weights[node.input[1]] for node in readers], axis=1)
        # Several readers are what attention begins with: products apart would be dear, and gain little.
        activations[name] = _Activation(name, joint, ranges[name], 0 if len(readers) > 1 else _LOUD)
        for node in readers:
            bias = biases.get(node.output[0])
            products[node.output[0]] = _Product(node, weights[node.input[1]], activations[name], bias)
    # What adds a bias to a product does so in the product now.
    added = {product.bias.node.output[0] for product in products.values() if product.bias}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    for node in graph.node:
        product = products.get(node.output[0])
        if product is None:
            result.graph.node.extend([] if node.output[0] in added else [node])
            continue
        for part in (activations.pop(product.activation.name, None), product):
            if part is not None:  # the first product that reads an activation brings it along
                result.graph.node.extend(part.nodes())
                result.graph.initializer.extend(part.constants())
    prune(result.graph)
    return result


def _products(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The encoder's products with constant weights."""
    constants = {weight.name for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/encoder/") and node.input[1] in constants:
            yield node


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The products that read each tensor."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in _products(graph):
        readers.setdefault(node.input[0], []).append(node)
    return readers


class _Bias(NamedTuple):
    """What is added to a product, and the node that does it."""

    node: onnx.NodeProto
    values: Float32


def _biases(graph: onnx.GraphProto, weights: Mapping[str, Float32]) -> dict[str, _Bias]:
    """By product, where one node alone reads it and adds a constant to each column."""
    after: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            after.setdefault(name, []).append(node)
    biases = {}
    for product in _products(graph):
        name = product.output[0]
        if len(after[name]) == 1 and after[name][0].op_type in ("Add", "BiasGelu"):
            others = [weights[other] for other in after[name][0].input if other in weights]
            if others and others[0].ndim == 1:
                biases[name] = _Bias(after[name][0], others[0])
    return biases


class _Activation:
    """What products read, as one tensor of uint8 and the channels that are multiplied apart."""

    def __init__(self, name: str, weights: Float32, given: ChannelRange, loud: int) -> None:
        self.name = name
        self.loud = np.sort(np.argsort(-given.reach(), kind="stable")[:loud])
        """The channels that reach farthest, in order. *Shape:* (loud,)."""
        # What is multiplied apart weighs nothing here, wherever its values are cut off.
        low, high = (_without(values, self.loud) for values in (given.low, given.high))
        self.smooth = _smoothing(np.maximum(high, -low), _without(weights, self.loud))
        """What each channel is divided by. *Shape:* (channels,)."""
        least = min(float((low / self.smooth).min()), 0.0)  # 0 must be among the 256 values
        greatest = max(float((high / self.smooth).max()), 0.0, least + 1e-6)
        self._scale = np.float32((greatest - least) / 255)
        self._zero = np.uint8(round(-least / self._scale))

    @property
    def quantised(self) -> tuple[str, str, str]:
        """Names of the uint8 tensor, of its scale and of its zero."""
        return self._own("uint8"), self._own("scale"), self._own("zero")

    @property
    def apart(self) -> str:
        """Name of the loud channels."""
        return self._own("apart")

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """Smooth, quantise, set apart."""
        smooth = self._own("smooth")
        quantised, scale, zero = self.quantised
        yield helper.make_node("Mul", [self.name, self._own("inverse")], [smooth])
        yield helper.make_node("QuantizeLinear", [smooth, scale, zero], [quantised])
        if len(self.loud):
            yield helper.make_node("Gather", [self.name, self._own("loud")], [self.apart], axis=-1)

    def constants(self) -> Iterator[onnx.TensorProto]:
        """What these nodes read beside the activation."""
        _, scale, zero = self.quantised
        yield constant(self._own("inverse"), (1 / self.smooth).astype(np.float32))
        yield constant(scale, np.asarray(self._scale))
        yield constant(zero, np.asarray(self._zero))
        if len(self.loud):
            yield constant(self._own("loud"), self.loud)

    def _own(self, part: str) -> str:
        return f"{self.name}_{part}"


class _Product:
    """One product, its bias and what GELU makes of it."""

    def __init__(
        self, node: onnx.NodeProto, weight: Float32, activation: _Activation, bias: _Bias | None
    ) -> None:
        self.activation = activation
        self.bias = bias
        self._name = node.output[0]
        self._loud_weight = weight[activation.loud]
        quiet = _without(weight, activation.loud) * activation.smooth[:, None]
        self._scale = (np.maximum(np.abs(quiet).max(axis=0), 1e-12) / _WEIGHT_LIMIT).astype(np.float32)
        self._weight = np.round(quiet / self._scale).astype(np.int8)

    def nodes(self) -> Sequence[onnx.NodeProto]:
        """Multiply, add what was multiplied apart, and GELU where the bias came with one."""
        quantised, scale, zero = self.activation.quantised
        bias = self._own("bias") if self.bias else ""
        factors = [quantised, self._own("weight"), scale, self._own("weight_scale"), zero, "", bias]
        nodes = [helper.make_node("MatMulIntegerToFloat", factors, [self._own("quiet")], domain=MICROSOFT)]
        if len(self._loud_weight):
            loud = self._own("from_loud")
            nodes.append(
                helper.make_node("MatMul", [self.activation.apart, self._own("loud_weight")], [loud])
            )
            nodes.append(helper.make_node("Add", [nodes[0].output[0], loud], [self._own("all")]))
        if self.bias and self.bias.node.op_type == "BiasGelu":
            # The one with tanh is twice as fast and moves label logits by 0.002, int8 by 0.05.
            nodes.append(
                helper.make_node("FastGelu", [nodes[-1].output[0]], [self._own("gelu")], domain=MICROSOFT)
            )
        nodes[-1].output[0] = self.bias.node.output[0] if self.bias else self._name
        return nodes

    def constants(self) -> Iterator[onnx.TensorProto]:
        """What these nodes read beside the activations."""
        yield constant(self._own("weight"), self._weight)
        yield constant(self._own("weight_scale"), self._scale)
        if self.bias:
            yield constant(self._own("bias"), self.bias.values)
        if len(self._loud_weight):
            yield constant(self._own("loud_weight"), self._loud_weight)

    def _own(self, part: str) -> str:
        return f"{self._name}_{part}"


def _without(values: npt.NDArray[Any], channels: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """`values` as if these channels (of the first axis) were always zero."""
    result = values.copy()
    result[channels] = 0
    return result


def _smoothing(reach: Float32, weights: Float32) -> Float32:
    """What each channel is divided by, and its row of weights multiplied with. *Shape:* (channels,).

    Quiet channels stay as they are: raising them costs the weights more than it gains.
    """
    reach = np.maximum(reach, 1e-5)
    rows = np.maximum(np.abs(weights).max(axis=1), 1e-5)
    scales = reach**_SMOOTHING / rows ** (1 - _SMOOTHING)
    return np.asarray(np.maximum(scales / np.median(scales), 1), dtype=np.float32)
