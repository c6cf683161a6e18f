"""The exported graph equals torch: the gate that must never be loosened."""

from pathlib import Path

import numpy as np
import pytest
import torch

from serving.errors import TrainingError
from serving.run import Batch, onnx_forward
from tests.conftest import RELEASED
from training.backbone import load_backbone
from training.export import export_graph, fused_operators
from training.job import export_folder
from training.model import JointModel
from training.schema import Schema
from training.weights import load_heads, round_to_half, torch_forward


@pytest.fixture(scope="module")
def model(tiny_folder: Path, schema: Schema) -> JointModel:
    backbone = load_backbone(str(tiny_folder), dropout=0.0)
    made = JointModel(backbone.encoder, len(schema.tags), len(schema.labels), dropout=0.0)
    load_heads(made, str(tiny_folder), schema)
    return made.eval()


@pytest.mark.parametrize("seed", range(4))
def test_graph_equals_torch_under_random_masks_and_lengths(
    tiny_folder: Path, model: JointModel, seed: int
) -> None:
    random = np.random.default_rng(seed)
    windows, tokens = int(random.integers(1, 9)), int(random.integers(3, 60))
    mask = (np.arange(tokens) < random.integers(3, tokens + 1, (windows, 1))).astype(np.int64)
    batch = Batch(random.integers(5, 60, (windows, tokens)), random.integers(0, 27, (windows, tokens)), mask)
    served = onnx_forward(tiny_folder / "model.onnx")(batch)
    trained = torch_forward(model, torch.device("cpu"))(batch)
    for ours, theirs in zip(served, trained, strict=True):
        assert np.abs(ours - theirs)[mask > 0].max() < 1e-4


def test_attention_gelu_layer_norm_and_embeddings_are_fused(tiny_folder: Path) -> None:
    counts = fused_operators(tiny_folder / "model.onnx")
    assert (counts["Attention"], counts["SkipLayerNormalization"], counts["BiasGelu"]) == (2, 4, 2)
    assert counts["EmbedLayerNormalization"] == 1


def test_weights_are_rounded_once_for_graph_and_safetensors(
    tiny_folder: Path, model: JointModel, tmp_path: Path
) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, round_to_half(tensor)), name
    export_graph(model, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").stat().st_size == (tiny_folder / "model.onnx").stat().st_size


def test_int8_that_depends_on_its_batch_mates_is_not_kept(
    tiny_folder: Path, tmp_path: Path, schema: Schema, corpus: list[object]
) -> None:
    from training.corpus import AnnotatedDocument, write_corpus

    documents = [d for d in corpus if isinstance(d, AnnotatedDocument)]
    write_corpus(tmp_path / "dev.jsonl", documents)
    target = tmp_path / "int8.onnx"
    with pytest.raises(TrainingError, match="gate is not passed"):
        export_folder(tiny_folder, target, "int8", tmp_path / "dev.jsonl", schema)
    assert not target.exists()


def test_a_folder_without_weights_says_so(tmp_path: Path, schema: Schema) -> None:
    with pytest.raises(TrainingError, match=r"no model\.safetensors"):
        export_folder(tmp_path, tmp_path / "x.onnx", "fp32", RELEASED, schema)
