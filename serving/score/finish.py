"""Where a run's files lie, how they are put together, and how a finished run is known again."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from serving.errors import ScoreError
from serving.model_folder import file_sha256
from serving.score.manifest import RUN, Finished, Ledger, RunIdentity, read_stored, refuse_if_changed
from serving.score.outputs import Kind, OutputFormat, merge, sync_folder, temporary_of, written_whole
from serving.score.sources import readable

REJECTS = "rejects.jsonl"
_LOCK = "lock"
_PART = re.compile(r"part-\d{6,}\..+")


@dataclass(frozen=True, slots=True)
class Targets:
    """The files of a run with an output of its own (stdout has none)."""

    out: Path
    """A file, or a folder of parts."""
    rejects: Path
    spans: Path | None
    form: OutputFormat
    spans_form: OutputFormat | None
    is_folder: bool

    @property
    def work(self) -> Path:
        """Parts and manifest of an unfinished run."""
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def manifest(self) -> Path:
        """What a finished run made of what."""
        return self.out.with_name(f"{self.out.name}.manifest.json")

    def made(self) -> list[Path]:
        """What a finished run leaves."""
        return [self.out, self.rejects, *([self.spans] if self.spans else [])]

    def recorded(self, path: Path) -> str:
        """The name of a file in the manifest: as seen from the output's folder."""
        return readable(os.path.relpath(path, self.out.parent))

    def files(self) -> dict[str, Path]:
        """The files that are there of what a finished run leaves, by their names in the manifest."""
        paths = [path for made in self.made() for path in (made.iterdir() if made.is_dir() else [made])]
        return {self.recorded(path): path for path in sorted(paths) if path.is_file()}

    def own(self) -> list[Path]:
        """All that a run may write, under final and temporary names: never an input of it."""
        paths = [*self.made(), self.manifest]
        return [self.work, *paths, *(temporary_of(path) for path in paths)]

    def check_folders(self) -> None:
        """Raise ScoreError if a folder that no run wrote lies in the way."""
        for path in self.made():
            if path.is_dir() and not all(_PART.fullmatch(inside.name) for inside in path.iterdir()):
                raise ScoreError(
                    f"{path} is a folder with other things than parts of a run; name another output."
                )

    def clear(self) -> None:
        """Throw away what an earlier run made."""
        for path in (self.manifest, *self.made()):
            _remove(path)

    def clear_work(self) -> None:
        """Throw away parts and their manifest; the lock is kept."""
        for path in self.work.iterdir():
            if path.name != _LOCK:
                _remove(path)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Keep a second run off the same output; the lock of a killed run is gone with it.

    `work` is removed in the end if nothing but the lock is in it.
    """
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            file = (work / _LOCK).open("wb")
        except FileNotFoundError:
            continue  # a run that ends has just removed the folder
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ScoreError(
                    f"another run is at work in {work}; wait for it or stop it, or name another output."
                ) from error
            if not _is_at(file, work / _LOCK):
                continue  # it was removed between opening and locking: the next run has another
            try:
                yield
            finally:
                if [path.name for path in work.iterdir()] == [_LOCK]:
                    (work / _LOCK).unlink()
                    with suppress(OSError):  # the next run is already there
                        work.rmdir()
            return


def finished_before(targets: Targets, identity: RunIdentity) -> Finished | None:
    """The record of the same run if it is finished. Raises ScoreError where its output is another's."""
    finished = read_stored(Finished, targets.manifest)
    there = targets.out.is_file() or (targets.out.is_dir() and any(targets.out.iterdir()))
    if finished and there and finished.run == identity:
        files = targets.files()
        for name, sha256 in finished.outputs.items():
            if name not in files or file_sha256(files[name]) != sha256:
                raise ScoreError(
                    f"{targets.out.parent / name} is missing or no longer what the run wrote; --restart to "
                    "write it anew."
                )
        return finished
    if (targets.work / RUN).exists():
        return None  # what is there is of this unfinished run, or was given up by a --restart
    if finished and there:
        refuse_if_changed(finished.run, identity, targets.out)
    ours = finished.outputs if finished else {}
    beside = [p for p in targets.made()[1:] if os.path.lexists(p) and targets.recorded(p) not in ours]
    if in_the_way := [*([targets.out] if there else []), *beside]:
        raise ScoreError(
            f"{in_the_way[0]} exists and is not from an unfinished run; name another output, or "
            "--restart to write it anew."
        )
    return None


def finish(ledger: Ledger, targets: Targets) -> Finished:
    """Put the parts together in order, write what was made of what, and remove the parts."""
    if targets.is_folder:
        _gather(ledger, targets)
    else:
        _merge(ledger, targets.out, "rows", targets.form, targets.form)
    if targets.spans and targets.spans_form:
        _merge(ledger, targets.spans, "spans", targets.spans_form, f"spans.{targets.spans_form}")
    _merge(ledger, targets.rejects, "rejects", "jsonl", REJECTS)
    finished = Finished(
        run=ledger.identity,
        counts=ledger.counts(),
        end=ledger.start().place,
        outputs={name: file_sha256(path) for name, path in targets.files().items()},
    )
    with written_whole(targets.manifest) as file:
        file.write(finished.to_bytes())
    targets.clear_work()
    return finished


def _merge(ledger: Ledger, target: Path, kind: Kind, form: OutputFormat, suffix: str) -> None:
    merge([ledger.path(part, suffix) for part in sorted(ledger.receipts)], target, kind, form)


def _gather(ledger: Ledger, targets: Targets) -> None:
    """A folder of the parts. They stay in the work folder, too, until the run is recorded."""
    targets.check_folders()
    gathered = temporary_of(targets.out)
    _remove(gathered)
    gathered.mkdir()
    for part in sorted(ledger.receipts):
        path = ledger.path(part, targets.form)
        try:
            os.link(path, gathered / path.name)
        except OSError:  # not every file system has links
            shutil.copyfile(path, gathered / path.name)
    sync_folder(gathered)
    _remove(targets.out)
    gathered.replace(targets.out)
    sync_folder(targets.out.parent)


def _is_at(file: BinaryIO, path: Path) -> bool:
    """An open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
