"""Kill -9 a corpus run again and again; what is left in the end must be what an undisturbed run leaves.

    python -m tests.kill_loop --kills 200 --tiny --documents 4000 --part-rows 100
    python -m tests.kill_loop --kills 20 --documents 200 --part-rows 16
    python -m tests.kill_loop --kills 20 'archive/*.jsonl.gz'

Kills fall at random moments after the run has begun to write. The tests kill at file operations
instead, which needs no clock and meets every state of the disk (see also kill_sweep.py).
"""

import argparse
import hashlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.corpora import documents, jsonl, write_corpus

_ROOT = Path(__file__).parent.parent
_COMMAND = "import sys; from training.cli import main; main()"
_KILLED_AT_OPERATION = """
import os, signal, sys
left, folder = int(sys.argv.pop(1)), sys.argv.pop(1)
def count(event, arguments):
    global left
    if event in ("os.remove", "os.rmdir") or (
        event in ("open", "os.mkdir", "os.rename", "os.link") and str(arguments[0]).startswith(folder)
    ):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
from training.cli import main
sys.addaudithook(count)
main()
"""

Ended = subprocess.CompletedProcess[str]
Session = Callable[[Sequence[str], random.Random], Ended]
"""Runs `embargo` with these arguments and may kill it (return code -9)."""


def undisturbed(arguments: Sequence[str]) -> Ended:
    """`embargo …` to its end."""
    command = [sys.executable, "-c", _COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)


def killed_at_an_operation(folder: Path, most: int) -> Session:
    """Kill before one of the first `most` operations on files in `folder`."""

    def session(arguments: Sequence[str], chance: random.Random) -> Ended:
        at = str(chance.randint(1, most))
        command = [sys.executable, "-c", _KILLED_AT_OPERATION, at, str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)

    return session


def killed_at_a_moment(work: Path, seconds: float) -> Session:
    """Kill within so many seconds after the run has its work folder."""

    def session(arguments: Sequence[str], chance: random.Random) -> Ended:
        command = [sys.executable, "-c", _COMMAND, *arguments]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT
        ) as run:
            while run.poll() is None and not (work / "run.json").exists():
                time.sleep(0.002)
            try:
                out, err = run.communicate(timeout=chance.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                run.kill()
                out, err = run.communicate()
        return Ended(command, run.returncode, out, err)

    return session


def kill_loop(folder: Path, arguments: Sequence[str], session: Session, kills: int, seed: int) -> int:
    """Run, kill and go on until `kills` sessions were killed; returns how many runs were finished.

    `folder` holds the output and nothing else. Raises AssertionError where a finished run left other
    bytes, other files, another exit code or another count than the undisturbed one.
    """
    chance = random.Random(seed)
    first = undisturbed(arguments)
    assert first.returncode in (0, 3), first.stderr
    expected = (contents(folder), first.returncode, reconciled(first.stderr))
    killed = finished = 0
    is_finished = True
    while killed < kills or not is_finished:
        if is_finished:
            empty(folder)
        ended = session(arguments, chance) if killed < kills else undisturbed(arguments)
        is_finished = ended.returncode != -9
        if is_finished:
            got = (contents(folder), ended.returncode, reconciled(ended.stderr))
            assert got == expected, f"after {killed} kills: {got}, expected {expected}\n{ended.stderr}"
        killed, finished = killed + (not is_finished), finished + is_finished
    return finished


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def empty(folder: Path) -> None:
    """As before the first run."""
    shutil.rmtree(folder)
    folder.mkdir()


def reconciled(stderr: str) -> tuple[int, int, int]:
    """What the summary says was read, written and rejected."""
    found = re.search(r"read ([\d,]+) = written ([\d,]+) \+ rejected ([\d,]+)", stderr)
    assert found, stderr
    read, written, rejected = (int(number.replace(",", "")) for number in found.groups())
    assert read == written + rejected
    return read, written, rejected


def write_archive(folder: Path, number: int) -> str:
    """Invented documents in three files, with copies, bad rows and a file that breaks off; a pattern
    that finds them.
    """
    folder.mkdir()
    rows = documents(number)
    third = -(-number // 3)
    write_corpus(folder / "a.jsonl.gz", rows[:third])
    cut = folder / "a.jsonl.gz"
    cut.write_bytes(cut.read_bytes()[:-9])
    mixed = [*rows[third : 2 * third], {"text": ""}, ["bad"], *rows[: third // 2]]
    (folder / "b.jsonl").write_bytes(jsonl(mixed))
    write_corpus(folder / "c.csv", rows[2 * third :] + rows[third : third + third // 2])
    return str(folder / "*.*")


def _tiny_model(folder: Path) -> Path:
    # Here, for whoever imports this module to fork wants no torch and none of its threads.
    from benchmarks.tiny_model import tiny_model_in

    return tiny_model_in(folder)


def main() -> None:
    """The long loop, from the command line; what it does not know goes to `embargo score`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--suffix", default=".jsonl.gz", help="of the output")
    parser.add_argument("--documents", type=int, help="score so many invented documents")
    parser.add_argument("--tiny", action="store_true", help="with a tiny model of random weights, made now")
    asked, score = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as made:
        if asked.documents:
            score.append(write_archive(Path(made, "archive"), asked.documents))
        if asked.tiny:
            score += ["--model", str(_tiny_model(Path(made)))]
        folder = Path(made, "out")
        folder.mkdir()
        out = folder / f"o{asked.suffix}"
        arguments = ["score", *score, "-o", str(out)]
        begun = time.monotonic()
        first = undisturbed(arguments)
        seconds = time.monotonic() - begun
        assert first.returncode in (0, 3), first.stderr
        sys.stderr.write(first.stderr)
        empty(folder)
        session = killed_at_a_moment(Path(f"{out}.work"), seconds)
        finished = kill_loop(folder, arguments, session, asked.kills, asked.seed)
    sys.stderr.write(f"{asked.kills} kills, {finished} runs finished: each as the undisturbed one\n")


if __name__ == "__main__":
    main()
