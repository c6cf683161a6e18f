"""Which models have a mean: those that began with the same weights, however they lie about."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from serving.errors import TrainingError
from training.average import average
from training.manifest import Provenance, rehash

Change = Callable[[dict[str, Any]], None]


def rewritten(file: Path, change: Change) -> None:
    row = orjson.loads(file.read_bytes())
    change(row)
    file.write_bytes(orjson.dumps(row))


def is_accepted(*folders: Path) -> bool:
    """True if nothing but documents to calibrate on is missing for a mean."""
    provenance = Provenance.of_average("embargo average", folders, [])
    try:
        average(folders, folders[0].with_name("mean-v1"), [], provenance)
    except TrainingError as error:
        return "no dev documents" in str(error)
    raise AssertionError("a mean without dev documents was written")


@pytest.fixture
def two(tiny_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    first, second = (Path(shutil.copytree(tiny_folder, tmp_path / name)) for name in ("a-v1", "b-v1"))
    return first, second


def from_model(seed: int, path: str = "models/x/manifest.json", sha256: str = "1", **more: object) -> Change:
    """A run that started from a model folder."""
    return lambda manifest: manifest.update(data={"start": {path: sha256}}, seed=seed, **more)


def mean_of(*changes: Change) -> Change:
    """A mean of runs."""

    def change(manifest: dict[str, Any]) -> None:
        parts = [dict(manifest) for _ in changes]
        for part, its in zip(parts, changes, strict=True):
            its(part)
        manifest.update(seed=0, averaged=parts, data={"averaged": {}})

    return change


@pytest.mark.parametrize(
    ("first", "second", "accepted"),
    [
        (from_model(1), from_model(2), True),  # as manifests were before new_heads
        (from_model(1, new_heads=False), from_model(2), True),
        (from_model(1, new_heads=True), from_model(2, new_heads=True), False),
        (from_model(1, new_heads=True), from_model(1, new_heads=True), True),
        (from_model(1), from_model(1, path="/elsewhere/x/manifest.json"), True),
        (from_model(1), from_model(1, sha256="2"), False),
        (mean_of(from_model(1), from_model(2)), from_model(3), True),
        (mean_of(from_model(1)), mean_of(from_model(1, sha256="2")), False),
        (mean_of(mean_of(from_model(1))), from_model(3), True),
        (lambda manifest: manifest.update(seed=1), lambda manifest: manifest.update(seed=2), False),
        (lambda manifest: manifest.update(seed=1), mean_of(lambda made: made.update(seed=1)), True),
    ],
)
def test_what_a_run_began_with_decides(
    two: tuple[Path, Path], first: Change, second: Change, accepted: bool
) -> None:
    for folder, change in zip(two, (first, second), strict=True):
        rewritten(folder / "manifest.json", change)
    assert is_accepted(*two) is accepted


def test_dropout_does_not_matter_and_layers_do(two: tuple[Path, Path]) -> None:
    def dropout(config: dict[str, Any]) -> None:
        config.update(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2, classifier_dropout=0.1)

    for change, accepted in ((dropout, True), (lambda config: config.update(num_hidden_layers=1), False)):
        rewritten(two[1] / "config.json", change)
        rehash(two[1])
        assert is_accepted(*two) is accepted
