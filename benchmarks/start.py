"""How long the engine takes from nothing to its first answer, and what it costs when idle.

    python -m benchmarks.start --model models/embargo-base-v3

prints medians over fresh processes as JSON: seconds to import the engine, to check and load the
model, to answer once, and the share of a CPU that the loaded engine takes while nobody asks.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated

import orjson
import typer

from benchmarks.command import run_command
from serving.errors import EmbargoError
from serving.model_folder import ModelFolder
from serving.settings import RELEASED_MODEL, find_model


def start(
    model: Annotated[str, typer.Option(help="Model folder.")] = str(RELEASED_MODEL),
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes, one after another.")] = 5,
    idle_seconds: Annotated[float, typer.Option(min=0.1, help="How long each stays idle.")] = 5.0,
) -> None:
    """Start the engine a few times and print what that takes, as JSON."""
    folder = ModelFolder.open(find_model(Path(model))).path
    runs = [_fresh(folder, idle_seconds) for _ in range(processes)]
    medians = {name: round(median(run[name] for run in runs), 4) for name in runs[0]}
    found = {"model": folder.name, "processes": processes, **medians}
    sys.stdout.buffer.write(orjson.dumps(found) + b"\n")


def _fresh(folder: Path, idle_seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.first_answer", str(folder), str(idle_seconds)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise EmbargoError(f"the engine did not start: {done.stderr.decode(errors='replace').strip()}")
    found: dict[str, float] = orjson.loads(done.stdout)
    return found


if __name__ == "__main__":
    run_command(start)
