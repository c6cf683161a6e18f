"""A model by its name."""

from pathlib import Path

import pytest

from serving.settings import find_model


def test_a_name_finds_a_released_model_and_then_one_trained_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("models/a-v1", "build/models/a-v1", "build/models/b-v1", "c-v1", "build/models/c-v1"):
        Path(folder).mkdir(parents=True)
    wanted = {"a-v1": "models/a-v1", "b-v1": "build/models/b-v1", "c-v1": "c-v1", "d-v1": "d-v1"}
    assert {name: find_model(Path(name)).as_posix() for name in wanted} == wanted
