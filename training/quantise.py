"""A fused graph in int8 whose answers do not depend on what a document is batched with.

Weights become int8 with a scale a column; what they are multiplied with becomes uint8 in one
fixed range a tensor, measured on documents when the model is exported. Dynamic quantisation takes
that range from each batch instead, so that batch mates change an answer (onnxruntime#10111).
The library's own static quantisation knows neither Attention nor products that stay fp32 outside.

A few channels reach ten times as far as all others and would take the range for themselves.
The loudest eight of each product are multiplied apart, in fp32 (as LLM.int8() does, Dettmers et al.
2022, but always the same ones); the others are divided by constants, and the weights that read them
multiplied with the same (SmoothQuant, Xiao et al. 2022). Attention knows no product apart and has
the latter alone. Embeddings, softmax, GELU, layer norms and heads stay fp32.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from serving.forward import Batch, TokenOutputs

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
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._lock = threading.Lock()
        self.ranges: dict[str, ChannelRange] = {}
        """By tensor, over all batches so far; padding does not count."""

    def __call__(self, batch: Batch) -> TokenOutputs:
        """Run and remember."""
        feed = {name: array for name, array in batch._asdict().items() if name in self._inputs}
        outputs = self._session.run([*TokenOutputs._fields, *self._read], feed)
        own = len(TokenOutputs._fields)
        real = batch.attention_mask > 0
        for name, values in zip(self._read, outputs[own:], strict=True):
            seen = ChannelRange(values[real].min(axis=0), values[real].max(axis=0))
            with self._lock:
                self.ranges[name] = self.ranges.get(name, seen).joined(seen)
        return TokenOutputs(*outputs[:own])


def quantise(model: onnx.ModelProto, ranges: Mapping[str, ChannelRange]) -> onnx.ModelProto:
    """`model` with its encoder's products in int8. `ranges`: of a Calibration of the same graph."""
    graph = model.graph
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    quantised: dict[str, _Product] = {
        node.output[0]: _Product(node, weights[node.input[1]], ranges[node.input[0]])
        for node in _products(graph)
    }
    replaced = {product.node.input[1] for product in quantised.values()}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.initializer.extend(w for w in graph.initializer if w.name not in replaced)
    for node in graph.node:
        product = quantised.get(node.output[0])
        result.graph.node.extend(product.nodes() if product else [node])
        result.graph.initializer.extend(product.constants() if product else [])
    return result


def _products(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The encoder's products with constant weights; an Attention node begins with one."""
    constant = {weight.name for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Attention" or (
            node.op_type == "MatMul" and node.name.startswith("/encoder/") and node.input[1] in constant
        ):
            yield node


class _Product:
    """One product, on its way from fp32 to int8."""

    def __init__(self, node: onnx.NodeProto, weight: Float32, given: ChannelRange) -> None:
        self.node = node
        self._name = node.output[0]
        loud = _loudest(given) if node.op_type == "MatMul" else np.empty(0, dtype=np.int64)
        self._loud, self._loud_weight = loud, weight[loud]
        # What is multiplied apart weighs nothing here, wherever its values are cut off.
        weight, given = _without(weight, given, loud)
        smooth = _smoothing(weight, given)
        weight = weight * smooth[:, None]
        self._inverse = (1 / smooth).astype(np.float32)
        self._weight_scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / _WEIGHT_LIMIT
        self._weight = np.round(weight / self._weight_scale).astype(np.int8)
        low = min(float((given.low / smooth).min()), 0.0)  # 0 must be among the 256 values
        high = max(float((given.high / smooth).max()), 0.0, low + 1e-6)
        self._scale = np.float32((high - low) / 255)
        self._zero = np.uint8(round(-low / self._scale))

    def nodes(self) -> list[onnx.NodeProto]:
        """Smooth, quantise, multiply."""
        smooth, quantised = f"{self._name}_smooth", f"{self._name}_uint8"
        scale, zero, weight, weight_scale = map(self._constant, ("scale", "zero", "weight", "weight_scale"))
        before = [
            helper.make_node("Mul", [self.node.input[0], self._constant("inverse")], [smooth]),
            helper.make_node("QuantizeLinear", [smooth, scale, zero], [quantised]),
        ]
        if self.node.op_type == "Attention":
            _, _, bias, mask = self.node.input[:4]
            product = helper.make_node(
                "QAttention",
                [quantised, weight, bias, scale, weight_scale, mask, zero],
                list(self.node.output),
                domain="com.microsoft",
            )
            product.attribute.extend(self.node.attribute)
            return [*before, product]
        quiet, apart, loud = (f"{self._name}_{part}" for part in ("quiet", "apart", "from_loud"))
        channels, loud_weight = map(self._constant, ("loud", "loud_weight"))
        return [
            *before,
            helper.make_node(
                "MatMulIntegerToFloat",
                [quantised, weight, scale, weight_scale, zero],
                [quiet],
                domain="com.microsoft",
            ),
            helper.make_node("Gather", [self.node.input[0], channels], [apart], axis=-1),
            helper.make_node("MatMul", [apart, loud_weight], [loud]),
            helper.make_node("Add", [quiet, loud], list(self.node.output)),
        ]

    def constants(self) -> list[onnx.TensorProto]:
        """What these nodes read beside the activations."""
        arrays = {
            "inverse": self._inverse,
            "scale": np.asarray(self._scale),
            "zero": np.asarray(self._zero),
            "weight": self._weight,
            "weight_scale": self._weight_scale.astype(np.float32),
        }
        if len(self._loud):
            arrays |= {"loud": self._loud, "loud_weight": self._loud_weight}
        return [numpy_helper.from_array(array, self._constant(name)) for name, array in arrays.items()]

    def _constant(self, name: str) -> str:
        return f"{self._name}_{name}"


def _loudest(given: ChannelRange) -> npt.NDArray[np.int64]:
    """The channels that reach farthest, in order. *Shape:* (loud,)."""
    return np.sort(np.argsort(-_reach(given), kind="stable")[:_LOUD])


def _reach(given: ChannelRange) -> Float32:
    """The greatest absolute value of each channel. *Shape:* (channels,)."""
    return np.maximum(given.high, -given.low)


def _without(
    weight: Float32, given: ChannelRange, channels: npt.NDArray[np.int64]
) -> tuple[Float32, ChannelRange]:
    """Weights and range as if these channels were always zero."""
    weight, low, high = weight.copy(), given.low.copy(), given.high.copy()
    weight[channels], low[channels], high[channels] = 0, 0, 0
    return weight, ChannelRange(low, high)


def _smoothing(weight: Float32, given: ChannelRange) -> Float32:
    """What each channel is divided by, and its row of weights multiplied with. *Shape:* (channels,).

    Quiet channels stay as they are: raising them costs the weights more than it gains.
    """
    reach = np.maximum(_reach(given), 1e-5)
    rows = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    scales = reach**_SMOOTHING / rows ** (1 - _SMOOTHING)
    return np.asarray(np.maximum(scales / np.median(scales), 1), dtype=np.float32)
