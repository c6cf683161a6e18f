"""Where a run stands, on disk: written so that a kill cannot leave half of it."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from serving.errors import TrainingError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

StateT = TypeVar("StateT", bound="DataclassInstance")
"""Where a run stands: a dataclass of numbers, strings and lists and dicts of them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a run that a checkpoint holds, and the file it is in."""

    path: Path
    run_id: str
    """Hash of everything that decides the run: data, settings, start, schema and code."""
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler

    def save(self, state: "DataclassInstance") -> None:
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

    def load(self, fresh: StateT) -> StateT:
        """Put the run back as it stood and return its state; `fresh` if there is no checkpoint."""
        if not self.path.is_file():
            return fresh
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        if saved["run_id"] != self.run_id:
            raise TrainingError(
                f"{self.path} belongs to a run with other data, settings, start or code; go on with "
                "those, give the result another name, or start over with --restart (make: RESTART=1)."
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"])
        if torch.cuda.is_available() and saved["random_cuda"]:
            torch.cuda.set_rng_state_all(saved["random_cuda"])
        return type(fresh)(**saved["state"])


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` that a kill cannot leave half written."""
    temporary = path.with_suffix(".partial")
    torch.save(value, temporary)
    os.replace(temporary, path)
