"""The interpreter of each system: this one, or that of an environment made from its pinned file."""

import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.protocol import SystemFailed

REQUIREMENTS = Path(__file__).parent / "requirements"
_MARK = "installed-from.txt"


def interpreter(
    requirements: str | None, folder: Path, say: Callable[[str], None], source: Path = REQUIREMENTS
) -> Path:
    """The Python that has what `source`/NAME.txt asks for, made under `folder` once; None: this one.

    Raises SystemFailed with pip's last line if it cannot be installed. What a failed try left is made anew.
    """
    if requirements is None:
        return Path(sys.executable)
    pins = source / f"{requirements}.txt"
    try:
        wanted = pins.read_text(encoding="utf-8")
    except OSError as error:
        raise SystemFailed(
            f"{pins.name} cannot be read ({error.strerror}); it must name the pins."
        ) from error
    place = folder / requirements
    python, mark = place / "bin" / "python", place / _MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return python
    say(f"Installing {requirements}.txt into {place}")
    venv.create(place, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-r", str(pins)], capture_output=True, text=True, check=False)
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "")
        raise SystemFailed(f"{requirements}.txt cannot be installed: {last or done.stderr[-300:]}")
    mark.write_text(wanted, encoding="utf-8")
    return python
