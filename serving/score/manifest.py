"""What a run is and what of it is done, on disk: so that it can go on, and nothing else can pass for it.

`OUT.work/run.json` says what the run is: inputs, model, options. A part's files are written first, its
receipt (`part-000000.json`) last; a part with a receipt is done and never written again. A receipt
names its run, so no part of another is ever taken over. When all are put together,
`OUT.manifest.json` says what was made of what, and `OUT.work/` goes.
"""

import hashlib
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.errors import ScoreError
from serving.model_folder import file_sha256
from serving.score.outputs import written_whole
from serving.score.parts import Place, Start
from serving.score.scoring import Counts
from serving.score.sources import SourceIdentity

_FORMAT = 2
"""To be raised with whatever changes what a part holds or how its documents meet in the engine."""

RUN = "run.json"

Stored = TypeVar("Stored", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """As it is written."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class RunIdentity(_Stored):
    """All that a run's output depends on. Two runs with the same give the same bytes."""

    format: int = _FORMAT
    model: dict[str, str]
    options: dict[str, Any]
    inputs: tuple[SourceIdentity, ...]
    software: dict[str, str]

    def changes(self, now: "RunIdentity") -> list[str]:
        """What is not as it was, in words."""
        changed = []
        if self.format != now.format:
            changed.append(f"this version of embargo cuts runs otherwise ({self.format}, now {now.format})")
        for what in ("model", "options", "software"):
            before, after = getattr(self, what), getattr(now, what)
            changed += [
                f"{what}: {name} was {before.get(name)}, now {after.get(name)}"
                for name in sorted(before.keys() | after.keys())
                if before.get(name) != after.get(name)
            ]
        old, new = ({given.name: given for given in run.inputs} for run in (self, now))
        changed += [f"input {name} was not there before" for name in new if name not in old]
        changed += [f"input {name} is no longer there" for name in old if name not in new]
        changed += [
            f"input {name} has other content" for name, given in new.items() if given != old.get(name, given)
        ]
        if not changed and self != now:
            changed.append("the inputs come in another order")
        return changed


class Receipt(_Stored):
    """One part is done."""

    run: str
    """SHA-256 of the run's identity."""
    part: int
    end: Place
    counts: Counts
    files: dict[str, str]
    """SHA-256 of each file of the part."""


class Finished(_Stored):
    """A finished run."""

    run: RunIdentity
    counts: Counts
    end: Place
    """Where its inputs ended, stdin among them."""
    outputs: dict[str, str]
    """SHA-256 of each file that was made."""


def software(*libraries: str) -> dict[str, str]:
    """Versions of what has a say in the result."""
    always = ("embargo", "numpy", "onnxruntime", "orjson", "tokenizers")
    return {
        "code": code_sha256(Path(__file__).parents[1])[:16],
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        **{name: version(name) for name in (*always, *libraries)},
    }


def code_sha256(package: Path) -> str:
    """Of the modules and tables that make texts into results: a checkout may change between two versions."""
    together = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.toml")]):
        together.update(f"{path.relative_to(package).as_posix()}\0{file_sha256(path)}\n".encode())
    return together.hexdigest()


def read_stored(kind: type[Stored], path: Path) -> Stored | None:
    """What a file holds; None if there is no such file. Raises ScoreError if it is damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ScoreError(
            f"{path} is not what a run of this version wrote; --restart begins anew and throws it away."
        ) from error


def refuse_if_changed(before: RunIdentity, now: RunIdentity, where: Path) -> None:
    """Raise ScoreError that says what is not as it was."""
    if changes := before.changes(now):
        listed = "; ".join(changes[:5]) + ("; …" if len(changes) > 5 else "")
        raise ScoreError(
            f"{where} is of a run that differs from this one ({listed}). Its results would not fit together: "
            "name another output, put things back as they were, or --restart to throw it away and begin anew."
        )


class Ledger:
    """The parts of a run in `OUT.work/`. Parts may be put in any order, each once."""

    def __init__(self, folder: Path, identity: RunIdentity) -> None:
        self.folder = folder
        self.identity = identity
        self.receipts: dict[int, Receipt] = {}
        self._run = hashlib.sha256(identity.to_bytes()).hexdigest()

    def begin(self) -> None:
        """Throw away what is there. From its first step on, `open` goes on with this run."""
        _write(self.folder / RUN, self.identity.to_bytes())
        for old in self.folder.glob("part-*"):
            old.unlink()

    def open(self) -> None:
        """Begin, or go on where the same run was cut off. Raises ScoreError if another run was."""
        before = read_stored(RunIdentity, self.folder / RUN)
        if before:
            refuse_if_changed(before, self.identity, self.folder)
        else:
            self.begin()
        for half_written in self.folder.glob("*.tmp"):
            half_written.unlink()
        for path in sorted(self.folder.glob("part-*[0-9].json")):
            receipt = read_stored(Receipt, path)
            if receipt and receipt.run == self._run and self._is_sound(receipt):
                self.receipts[receipt.part] = receipt

    def read(self, part: int, suffix: str) -> bytes:
        """A file of a part."""
        return self.path(part, suffix).read_bytes()

    def start(self) -> Start:
        """Behind the parts that are done without a gap."""
        rows, number, place = 0, 0, Place()
        while receipt := self.receipts.get(number):
            rows, number, place = rows + receipt.counts.read, number + 1, receipt.end
        return Start(number, rows, place)

    def put(self, part: int, end: Place, counts: Counts, files: Mapping[str, bytes]) -> None:
        """Keep a part: `files` are its files by suffix. It is done when this returns, not before."""
        hashes = {}
        for suffix, content in files.items():
            path = self.path(part, suffix)
            _write(path, content)
            hashes[path.name] = hashlib.sha256(content).hexdigest()
        receipt = Receipt(run=self._run, part=part, end=end, counts=counts, files=hashes)
        _write(self.folder / f"part-{part:06}.json", receipt.to_bytes())
        self.receipts[part] = receipt

    def path(self, part: int, suffix: str) -> Path:
        """A file of a part."""
        return self.folder / f"part-{part:06}.{suffix}"

    def counts(self) -> Counts:
        """Of all parts that are done."""
        return sum((receipt.counts for receipt in self.receipts.values()), Counts())

    def _is_sound(self, receipt: Receipt) -> bool:
        """Its files are as they were written; a part that is not is made again."""
        for name, sha256 in receipt.files.items():
            path = self.folder / name
            if not path.is_file() or file_sha256(path) != sha256:
                return False
        return True


def _write(path: Path, content: bytes) -> None:
    with written_whole(path) as file:
        file.write(content)
