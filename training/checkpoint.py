"""Where a run stands, on disk: written so that a kill cannot leave half of it."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from serving.errors import TrainingError
from training.model import JointModel


@dataclass(slots=True)
class State:
    """Where a run stands; all of it is in its checkpoint."""

    epoch: int = 0
    step_in_epoch: int = 0
    steps_done: int = 0
    best_score: float = -1.0
    best_epoch: int = -1
    tag_loss: float = 0.0
    """Sum over the steps of the epoch so far."""
    label_loss: float = 0.0
    """Sum over the steps of the epoch so far."""
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a run that a checkpoint holds, and the file it is in."""

    path: Path
    run_id: str
    """Hash of everything that decides the run: data, settings, start, schema and code."""
    model: JointModel
    optimizer: Optimizer
    schedule: LRScheduler

    def save(self, state: State) -> None:
        """Write the run as it stands."""
        save_atomically(
            {
                "run_id": self.run_id,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                "state": asdict(state),
            },
            self.path,
        )

    def load(self) -> State:
        """Put the run back as it stood; a fresh state if there is no checkpoint."""
        if not self.path.is_file():
            return State()
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        if saved["run_id"] != self.run_id:
            raise TrainingError(
                f"{self.path} belongs to a run with other data, settings, start or code; go on with "
                "those, choose another --name, or start over with --restart (make: RESTART=1)."
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"])
        if torch.cuda.is_available() and saved["random_cuda"]:
            torch.cuda.set_rng_state_all(saved["random_cuda"])
        return State(**saved["state"])


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` that a kill cannot leave half written."""
    temporary = path.with_suffix(".partial")
    torch.save(value, temporary)
    os.replace(temporary, path)
