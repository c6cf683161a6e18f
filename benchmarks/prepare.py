"""What peers need before they can be measured: the graph as exported, and spaCy trained."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.converted import made_once
from benchmarks.protocol import SystemFailed
from serving.model_folder import FILES, ModelFolder, file_sha256
from training.export import trace_graph
from training.weights import load_trained


def checkpoint_folder(model: ModelFolder, build: Path) -> Path:
    """Where all that is made of a checkpoint lies, by the hash of its weights."""
    weights = model.path / FILES.weights
    if not weights.is_file():
        raise SystemFailed(
            f"{model.path} has no {FILES.weights} (a release may leave it out), and peers read the same "
            "checkpoint; expected a folder with weights: train one with `make train`."
        )
    return build / "checkpoints" / file_sha256(weights)[:16]


def plain_graph(model: ModelFolder, folder: Path) -> Path:
    """The checkpoint as PyTorch exports it, made once: what a peer's own converter would start from."""

    def export(target: Path) -> None:
        trace_graph(load_trained(model)[0], target / FILES.graph)

    return made_once(folder / "exported", export) / FILES.graph


def spacy_pipeline(folder: Path) -> Path:
    """Where `embargo baselines` keeps the trained pipeline."""
    return folder / "spacy-cnn" / "model-best"


def train_spacy(
    folder: Path, corpora: Sequence[str], steps: int, log: Path, say: Callable[[str], None]
) -> None:
    """Train the pipeline by `embargo baselines`, unless `folder` has one.

    Raises SystemFailed if it cannot be trained.
    """
    if spacy_pipeline(folder).is_dir():
        return
    say(f"training spaCy's pipeline on {' '.join(corpora)} into {folder}, once")
    embargo = [sys.executable, "-c", "from training.cli import main; main()", "baselines"]
    options = ["--data", " ".join(corpora), "-o", str(folder), "--spacy-steps", str(steps)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run([*embargo, *options], stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemFailed(f"spaCy's pipeline could not be trained (more in {log})")
