"""Kill a corpus run before each of its operations on files in turn; the same command must go on every time.

    python -m tests.kill_sweep MODEL INPUT FOLDER NAME [--over finished|unfinished]

FOLDER is for the output NAME alone. With --over, each run is a --restart over an output, finished or
not, of a run with other options. Runs are forks of this process, with a stand-in for the engine,
so a sweep takes seconds. Prints how many operations there were.
"""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from serving.errors import ScoreError
from serving.model_folder import ModelFolder
from serving.results import Analysis, Coverage, Document, Entity, Options
from serving.score.job import ScoreJob
from serving.score.manifest import Ledger
from serving.score.parts import Cut
from serving.score.run import run_score
from serving.score.scoring import Counts, score_parts
from tests.kill_loop import contents, empty

_DONE, _REFUSED, _FAILED = 0, 3, 4
_KILLED = -signal.SIGKILL


class _Nobody:
    """Who looks on."""

    def begin(self, total_bytes: int | None, done_bytes: int, done: Counts) -> None: ...
    def piece(self, analyses: Sequence[Analysis]) -> None: ...
    def part(self, counts: Counts, done_bytes: int) -> None: ...


def _analyze(documents: list[Document]) -> list[Analysis]:
    """Results that follow from the texts alone."""
    return [
        Analysis(d.id, (), (Entity("ORG", 0, 1, d.text[0], len(d.text) % 10 / 10, "text"),), Coverage(1, 1))
        for d in documents
    ]


def _forked(run: Callable[[], object]) -> int:
    """What became of `run` in a process of its own."""
    child = os.fork()
    if child == 0:
        ended = _FAILED
        try:
            run()
            ended = _DONE
        except ScoreError as error:
            sys.stderr.write(f"{error}\n")
            ended = _REFUSED
        finally:
            os._exit(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_before(operation: int, folder: str) -> None:
    """Let this process die before an operation on files in `folder`, counted from 1."""
    left, fsync = operation, os.fsync

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        # What removes a folder gives names without their place.
        if event in ("os.remove", "os.rmdir") or (
            event in ("open", "os.mkdir", "os.rename", "os.link") and str(arguments[0]).startswith(folder)
        ):
            step()

    def watched_fsync(descriptor: int) -> None:
        step()
        fsync(descriptor)

    sys.addaudithook(watch)
    os.fsync = watched_fsync


def sweep(job: ScoreJob, model: ModelFolder, folder: Path, over: str | None) -> int:
    """Kill before operation 1, 2, … until a run gets through; returns how many operations it took.

    Raises AssertionError where a run that went on left anything else than an undisturbed one.
    """

    def run(asked: ScoreJob) -> None:
        run_score(asked, model, lambda parts: score_parts(parts, _analyze), _Nobody())

    def cut_off() -> None:
        put = Ledger.put

        def put_once(ledger: Ledger, *rest: Any) -> None:
            put(ledger, *rest)
            os.kill(os.getpid(), signal.SIGKILL)

        Ledger.put = put_once  # type: ignore[method-assign]
        run(replace(job, options=Options(min_score=0.5), spans=None))

    def killed(operation: int) -> None:
        _kill_before(operation, str(folder))
        run(replace(job, restart=over is not None))

    assert _forked(lambda: run(job)) == _DONE
    expected = contents(folder)
    empty(folder)
    if over == "finished":
        assert _forked(lambda: run(replace(job, options=Options(min_score=0.5), spans=None))) == _DONE
    elif over:
        assert _forked(cut_off) == _KILLED
    old, kept = contents(folder), folder.with_name(f"{folder.name}-old")
    shutil.copytree(folder, kept)
    for operation in count(1):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        ended = _forked(lambda: killed(operation))  # noqa: B023
        if ended == _DONE:
            assert contents(folder) == expected
            return operation - 1
        assert ended == _KILLED, f"operation {operation}: {ended}"
        left = contents(folder)
        for name, hash_ in expected.items():  # whole or not there
            assert left.get(name, hash_) in (hash_, old.get(name)), f"operation {operation}: half of {name}"
        ended = _forked(lambda: run(job))
        if over and ended == _REFUSED:  # the --restart had not yet begun
            left = contents(folder)
            assert all(left.get(name) == hash_ for name, hash_ in old.items()), f"operation {operation}"
            ended = _forked(lambda: run(replace(job, restart=True)))
        assert ended == _DONE, f"operation {operation}: {ended}"
        assert contents(folder) == expected, f"operation {operation}: {contents(folder)}, not {expected}"
    raise AssertionError("unreachable")


def main() -> None:
    """One sweep, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("model", "input", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("name")
    parser.add_argument("--over", choices=["finished", "unfinished"])
    asked = parser.parse_args()
    asked.folder.mkdir()
    spans = asked.folder / "spans.jsonl"
    job = ScoreJob([str(asked.input)], str(asked.folder / asked.name), cut=Cut(rows=4), spans=spans)
    sys.stdout.write(f"{sweep(job, ModelFolder.open(asked.model), asked.folder, asked.over)}\n")


if __name__ == "__main__":
    main()
