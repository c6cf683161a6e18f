"""CTranslate2's encoder, the strongest peer: no padding but in attention, int8 by row."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt
import orjson
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec
from safetensors.numpy import load_file

from benchmarks.converted import made_once
from benchmarks.protocol import Choice, Given
from benchmarks.reader import EncoderReader, by_length
from serving.forward import Batch, TokenOutputs
from serving.model_folder import FILES
from serving.results import Analysis, Document

Weights = dict[str, npt.NDArray[np.float32]]


class CTranslate2Encoder:
    """Sorted micro-batches on `inter` replicas of `intra` threads; heads in NumPy."""

    packages = ("ctranslate2", "tokenizers", "numpy")

    def __init__(self, compute_type: str) -> None:
        self._compute_type = compute_type

    def choices(self, threads: int) -> Sequence[Choice]:
        """All that fill the budget."""
        return [
            {"inter": inter, "intra": threads // inter}
            for inter in range(1, threads + 1)
            if threads % inter == 0
        ]

    def load(self, given: Given, choice: Choice) -> None:
        """Convert once a checkpoint, then load."""
        weights = {
            name: array.astype(np.float32) for name, array in load_file(given.model / FILES.weights).items()
        }
        folder = made_once(
            given.scratch / f"ctranslate2-{ctranslate2.__version__}",
            lambda target: _convert(given.model, weights, target),
        )
        inter, intra = int(choice["inter"]), int(choice["intra"])
        self._encoder = ctranslate2.Encoder(
            str(folder), compute_type=self._compute_type, inter_threads=inter, intra_threads=intra
        )
        self._heads = _Heads(weights)
        self._pool = ThreadPoolExecutor(inter)
        self._reader = EncoderReader(given.model, partial(by_length, at_once=inter), self._run)

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """Labels and entities."""
        return self._reader.read(documents)

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        return self._reader.label_logits(documents)

    def _run(self, batches: Iterable[Batch]) -> Iterator[TokenOutputs]:
        return self._pool.map(self._forward, batches)

    def _forward(self, batch: Batch) -> TokenOutputs:
        lengths = batch.attention_mask.sum(axis=1).astype(np.int32)
        encoded = self._encoder.forward_batch(
            ctranslate2.StorageView.from_array(batch.input_ids.astype(np.int32)),
            ctranslate2.StorageView.from_array(lengths),
            batch.token_type_ids.tolist(),
        )
        return self._heads(np.array(encoded.last_hidden_state))


class _Heads:
    """The linear layers on top of the encoder."""

    def __init__(self, weights: Weights) -> None:
        names = ("classifier", "label_scores", "label_values")
        parts = [weights[f"{name}.weight"] for name in names]
        self._weight = np.concatenate(parts).T.copy()
        self._bias = np.concatenate(
            [
                weights.get(f"{name}.bias", np.zeros(len(part), np.float32))
                for name, part in zip(names, parts, strict=True)
            ]
        )
        self._borders = np.cumsum([len(part) for part in parts])[:-1]

    def __call__(self, hidden: npt.NDArray[np.float32]) -> TokenOutputs:
        """*Shape:* (windows, tokens, hidden) -> (windows, tokens, outputs of each head)."""
        return TokenOutputs(*np.split(hidden @ self._weight + self._bias, self._borders, axis=-1))


def _convert(model: Path, weights: Weights, folder: Path) -> None:
    """As CTranslate2's own converter does with a BERT, from the file and without PyTorch."""
    config = orjson.loads((model / FILES.config).read_bytes())
    vocabulary = orjson.loads((model / FILES.tokenizer).read_bytes())["model"]["vocab"]
    encoder = transformer_spec.TransformerEncoderSpec(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        pre_norm=False,
        activation={"gelu": common_spec.Activation.GELU}[config["hidden_act"]],
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = weights["bert.embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = weights["bert.embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = weights["bert.embeddings.position_embeddings.weight"]
    _layer_norm(encoder.layernorm_embedding, weights, "bert.embeddings.LayerNorm")
    for number, layer in enumerate(encoder.layer):
        name = f"bert.encoder.layer.{number}"
        projections = [common_spec.LinearSpec() for _ in range(3)]
        for projection, kind in zip(projections, ("query", "key", "value"), strict=True):
            _linear(projection, weights, f"{name}.attention.self.{kind}")
        utils.fuse_linear(layer.self_attention.linear[0], projections)
        _linear(layer.self_attention.linear[1], weights, f"{name}.attention.output.dense")
        _layer_norm(layer.self_attention.layer_norm, weights, f"{name}.attention.output.LayerNorm")
        _linear(layer.ffn.linear_0, weights, f"{name}.intermediate.dense")
        _linear(layer.ffn.linear_1, weights, f"{name}.output.dense")
        _layer_norm(layer.ffn.layer_norm, weights, f"{name}.output.LayerNorm")
    spec = transformer_spec.TransformerEncoderModelSpec(encoder)
    spec.config.layer_norm_epsilon = config["layer_norm_eps"]
    spec.register_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__))
    spec.validate()
    spec.optimize()
    spec.save(str(folder))


def _linear(spec: common_spec.LinearSpec, weights: Weights, name: str) -> None:
    spec.weight, spec.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]


def _layer_norm(spec: common_spec.LayerNormSpec, weights: Weights, name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]
