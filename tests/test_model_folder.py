"""A model folder is checked when it is opened, and the message names the file."""

import shutil
from pathlib import Path

import orjson
import pytest
from transformers import AutoModelForTokenClassification, AutoTokenizer

from serving.errors import ModelFolderError
from serving.model_folder import FILES, ModelFolder, file_sha256


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_a_copied_folder_is_the_same_model(tiny_folder: Path, copy: Path) -> None:
    assert ModelFolder.open(copy).sha256 == ModelFolder.open(tiny_folder).sha256
    assert ModelFolder.open(copy).sha256 == file_sha256(copy / FILES.manifest)


@pytest.mark.parametrize("name", FILES.needed())
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        ModelFolder.open(copy)


def test_an_altered_file_is_named(copy: Path) -> None:
    with (copy / FILES.graph).open("ab") as graph:
        graph.write(b"x")
    with pytest.raises(ModelFolderError, match=r"model\.onnx has SHA-256"):
        ModelFolder.open(copy)


def test_tags_in_another_order_are_refused(copy: Path) -> None:
    config = orjson.loads((copy / FILES.config).read_bytes())
    config["id2label"]["0"], config["id2label"]["1"] = "B-PERSON", "O"
    (copy / FILES.config).write_bytes(orjson.dumps(config))
    with pytest.raises(ModelFolderError, match="id2label"):
        ModelFolder.open(copy, verify=False)


def test_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="make train"):
        ModelFolder.open(tmp_path / "nothing")


def test_the_folder_loads_with_transformers(tiny_folder: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(tiny_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    assert model.config.id2label[1] == "B-PERSON"
    assert model(**tokenizer("oil and coal", return_tensors="pt")).logits.shape[-1] == 27
