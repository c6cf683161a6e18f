"""A model folder calibrated and measured anew, for example on a user's own dev documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.model_folder import FILES, ModelFolder
from training.folder import EvaluationSet, TrainedModel, Write, write_folder
from training.manifest import Provenance
from training.weights import load_trained


def recalibrated(folder: Path, dev_files: Sequence[Path], command: str) -> Provenance:
    """What `folder` was made from, and then calibrated on by `command`."""
    return Provenance.of_manifest(folder).remade(command, {"dev": dev_files})


def recalibrate(
    folder: Path,
    target: Path,
    sets: Sequence[EvaluationSet],
    provenance: Provenance,
    *,
    int8_graph: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit temperatures and thresholds on the dev sets, measure on all, write `target`.

    Weights are those of `folder`, and so is the graph, unless a quantised one takes its place.
    Returns the metrics by data set.
    """
    opened = ModelFolder.open(folder)
    model, backbone, schema = load_trained(opened)
    config = opened.config
    if int8_graph:
        config = config.model_copy(update={"graph_variant": "int8"})
    kept = ("training.toml", "curves.json", "curves.png")
    extras = {name: _copy_of(folder / name) for name in kept if (folder / name).is_file()}
    graph = _copy_of(int8_graph or folder / FILES.graph)
    trained = TrainedModel(model, backbone, config, schema, provenance, extras, graph)
    return write_folder(target, trained, sets)


def _copy_of(file: Path) -> Write:
    """Writes what `file` holds now, for the target may replace its folder."""
    content = file.read_bytes()
    return lambda path: path.write_bytes(content)
