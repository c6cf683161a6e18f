"""The exported graph equals torch: the gate that must never be loosened."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.forward import Batch, onnx_forward
from serving.model_folder import ModelFolder
from training.corpus import AnnotatedDocument
from training.export import export_graph, fused_operators
from training.model import JointModel
from training.reexport import export_folder
from training.weights import load_trained, round_to_half, torch_forward


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> JointModel:
    return load_trained(ModelFolder.open(tiny_folder))[0].eval()


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
    tiny_folder: Path, tmp_path: Path, corpus: list[AnnotatedDocument]
) -> None:
    with pytest.raises(TrainingError, match="gate is not passed"):
        export_folder(tiny_folder, tmp_path / "int8", "int8", corpus)
    assert list(tmp_path.iterdir()) == []


def test_an_exported_folder_is_complete_and_reads_the_same(
    tiny_folder: Path, tmp_path: Path, corpus: list[AnnotatedDocument]
) -> None:
    assert export_folder(tiny_folder, tmp_path / "again", "fp32", []) is None
    folders = [ModelFolder.open(path) for path in (tiny_folder, tmp_path / "again")]
    documents = [document.document() for document in corpus]
    first, second = (Analyzer.load(folder).analyze(documents) for folder in folders)
    assert first == second
    with pytest.raises(TrainingError, match="exists already"):
        export_folder(tiny_folder, tmp_path / "again", "fp32", [])


def test_a_folder_without_weights_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    (copy / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"no model\.safetensors"):
        export_folder(copy, tmp_path / "x", "fp32", [])
