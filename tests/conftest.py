"""A tiny model with random weights, made on the fly: the plumbing is real, the answers are not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.tiny_model import tiny_corpus, tiny_train_config, write_backbone, write_tiny_model
from serving.analyzer import Analyzer
from serving.model_folder import ModelFolder
from serving.settings import Settings
from tests.corpora import Runs
from tests.servers import Server
from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.schema import Schema, load_schema

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
RELEASED = ROOT / "models" / "embargo-base-v3"
RELEASED_SMALL = ROOT / "models" / "embargo-small-v1"


@pytest.fixture(scope="session")
def schema() -> Schema:
    return load_schema(ROOT / "datasets" / "schema.toml")


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT with a small vocabulary, saved as `transformers` saves one."""
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    return tiny_train_config()


@pytest.fixture(scope="session")
def corpus() -> list[AnnotatedDocument]:
    """Enough documents to learn something from by heart."""
    return tiny_corpus()


@pytest.fixture(scope="session")
def tiny_folder(
    tmp_path_factory: pytest.TempPathFactory,
    backbone_folder: Path,
    schema: Schema,
) -> Path:
    """A complete model folder of a model that was never trained."""
    folder = tmp_path_factory.mktemp("models") / "tiny-v1"
    write_tiny_model(folder, backbone_folder, schema)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Analyzer:
    return Analyzer.load(ModelFolder.open(tiny_folder), threads=2)


@pytest.fixture
def runs(tiny_folder: Path, tiny: Analyzer) -> Runs:
    return Runs(ModelFolder.open(tiny_folder), tiny)


@pytest.fixture
def server(tiny_folder: Path) -> Iterator[Server]:
    with Server(Settings(model=tiny_folder, threads=2, max_line_bytes=5_000)) as running:
        yield running


def quiet(done: int, total: int, line: str) -> None:
    """Progress of a training run that nobody watches."""
