"""The mean of several models' weights: one model, as fast as each, that is right more often.

Runs from the same weights end in the same valley of the loss, each on a slope of its own; the mean
of their weights lies further down (Wortsman et al. 2022, "Model soups"). Runs from different
weights end in different valleys, and the mean of those reads nothing: they are refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor

from serving.errors import TrainingError
from serving.model_folder import FILES, ModelFolder, file_sha256
from training.folder import EvaluationSet, TrainedModel, write_folder
from training.job import split_name
from training.manifest import Provenance
from training.weights import load_trained


def average(
    folders: Sequence[Path], target: Path, sets: Sequence[EvaluationSet], provenance: Provenance
) -> dict[str, dict[str, Any]]:
    """Write `target`, named by its last part: the mean of `folders`, calibrated and measured.

    Temperatures and thresholds are fitted on the sets that are dev sets. Returns the metrics by
    data set. Raises TrainingError at fewer than two folders, at models of other types, labels,
    windows, layers or tokenizers, and at models that did not start from the same weights.
    """
    name, version = split_name(target.name)
    if len(folders) < 2:
        raise TrainingError(f"got {len(folders)} model folder to average; expected two or more.")
    opened = [ModelFolder.open(folder) for folder in folders]
    first, *others = opened
    for other in others:
        _check_like(first, other)
    model, backbone, schema = load_trained(first)
    states = [model.state_dict(), *(load_trained(other)[0].state_dict() for other in others)]
    model.load_state_dict({key: _mean([state[key] for state in states]) for key in states[0]})
    config = first.config.model_copy(update={"name": name, "version": version})
    return write_folder(target, TrainedModel(model, backbone, config, schema, provenance), sets)


def _check_like(first: ModelFolder, other: ModelFolder) -> None:
    for part, ours, theirs in zip(_PARTS, _parts(first), _parts(other), strict=True):
        if ours != theirs:
            raise TrainingError(f"{other.path} has {part} other than {first.path}; expected the same.")
    if _start(_manifest(first.path)) != _start(_manifest(other.path)):
        raise TrainingError(
            f"{other.path} did not start from the weights that {first.path} started from, and the mean of "
            "such two reads nothing; expected runs of `embargo train` with the same --from, and with the "
            "same seed where heads start anew."
        )


_PARTS = ("types", "labels", "windows", "an encoder", "a tokenizer")


def _parts(folder: ModelFolder) -> tuple[Any, ...]:
    """What must be the same in all models, as `_PARTS` names it."""
    config = folder.config
    tokenizer = file_sha256(folder.path / FILES.tokenizer)
    return config.type_names(), config.label_set().names, config.window, _encoder(folder.path), tokenizer


def _encoder(folder: Path) -> dict[str, Any]:
    """What `config.json` says of the encoder, but for dropout, which only training knows."""
    row: dict[str, Any] = orjson.loads((folder / FILES.config).read_bytes())
    return {key: value for key, value in row.items() if key != "embargo" and "dropout" not in key}


def _manifest(folder: Path) -> Mapping[str, Any]:
    manifest: Mapping[str, Any] = orjson.loads((folder / FILES.manifest).read_bytes())
    return manifest


def _start(making: Mapping[str, Any]) -> tuple[Any, int | None]:
    """What decides the weights that a run began with: a model or an encoder, and the seed of new heads.

    A mean has the start that all it was made of have.
    """
    while making.get("averaged"):
        making = making["averaged"][0]
    start = sorted(making["data"].get("start", {}).values())  # hashes: the same model may lie elsewhere
    new_heads = making.get("new_heads")
    if new_heads is None:  # a manifest of before that was written down
        new_heads = not start
    return start or making["pretraining"] or making["backbone"], making["seed"] if new_heads else None


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Counts and positions are the same in all and stay what they are."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.float() for tensor in tensors]).mean(dim=0)
