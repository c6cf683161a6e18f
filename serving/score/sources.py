"""What a run reads: files, folders and patterns, named in a fixed order and known by their hashes."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from serving.errors import ScoreError
from serving.model_folder import file_sha256
from serving.score.extra import needs_corpora_extra
from serving.score.streams import BrokenInput

SourceFormat = Literal["jsonl", "csv", "tsv", "parquet", "txt", "folder"]
Compression = Literal["", "gz", "zst"]

STDIN = "-"
_BY_SUFFIX: dict[str, SourceFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "txt",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
_COMPRESSIBLE = ("jsonl", "csv", "tsv")
KNOWN = ".jsonl, .ndjson, .csv, .tsv (each also with .gz or .zst), .parquet, .txt, a folder of .txt"


class SourceIdentity(BaseModel):
    """What tells one version of an input from another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    bytes: int | None
    """None of what is read from stdin or cannot be read."""
    sha256: str | None
    """Of a folder: over the names and hashes of its files."""
    unreadable: tuple[str, ...] = ()
    """Files of it that could not be read; they become rejects."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input, as it was named."""

    name: str
    format: SourceFormat
    compression: Compression = ""
    unreadable: frozenset[str] | None = None
    """Files that could not be read when the run began: they are rejects, and another that fails
    later is not, for it may be there again tomorrow. None where nobody has looked."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.name)

    @property
    def is_stdin(self) -> bool:
        """It can be read once only."""
        return self.name == STDIN

    def files(self) -> Iterator[tuple[str, Path]]:
        """Of a folder: the name and path of each text file, sorted folder by folder."""
        if self.format == "txt":
            yield self.name, self.path
            return
        for folder, folders, names in os.walk(self.path, onerror=_raise):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() == ".txt":
                    yield path.relative_to(self.path).as_posix(), path

    def paths(self) -> list[Path]:
        """Its files; none of stdin."""
        if self.is_stdin:
            return []
        return [path for _, path in self.files()] if self.format == "folder" else [self.path]

    def identity(self) -> SourceIdentity:
        """Reads all of it, unless it is stdin."""
        if self.is_stdin:
            return SourceIdentity(name=readable(self.name), bytes=None, sha256=None)
        if self.format != "folder":
            size, sha256 = _size_and_hash(self.path)
            lost = () if sha256 else (readable(self.name),)
            return SourceIdentity(name=readable(self.name), bytes=size, sha256=sha256, unreadable=lost)
        total, together, unreadable = 0, hashlib.sha256(), []
        for name, path in self.files():
            size, sha256 = _size_and_hash(path)
            total += size or 0
            unreadable += [] if sha256 else [readable(name)]
            together.update(f"{name}\0{sha256}\n".encode("utf-8", "surrogateescape"))
        return SourceIdentity(
            name=readable(self.name), bytes=total, sha256=together.hexdigest(), unreadable=tuple(unreadable)
        )

    def known(self, identity: SourceIdentity) -> "Source":
        """The same, with what was found out when it was hashed."""
        return replace(self, unreadable=frozenset(identity.unreadable))

    def size(self) -> int | None:
        """Bytes, by what the file system says; None of stdin."""
        if self.is_stdin:
            return None
        return sum(path.stat().st_size for path in self.paths() if os.path.isfile(path))


def readable(name: str) -> str:
    """A file name that can be written as text, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "replace")


def open_file(path: Path) -> BinaryIO:
    """A regular file for reading. Raises BrokenInput."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise BrokenInput("unreadable", "It is no regular file; pipe it into `embargo score -`.")
    try:
        return path.open("rb")
    except OSError as error:
        raise BrokenInput("unreadable", f"It cannot be opened ({error.strerror}).") from error


def find_sources(
    given: Sequence[str], *, outputs: Collection[Path] = (), input_format: str | None = None
) -> list[Source]:
    """The inputs that the words of a command name, patterns resolved in sorted order.

    `outputs` and what lies in them are left out of what patterns find. `input_format` (such as
    "csv.gz") is that of stdin and of names without a known suffix. Raises ScoreError.
    """
    names: list[str] = []
    written = [Path(os.path.abspath(path)) for path in outputs]

    def is_written(name: str) -> bool:
        return name != STDIN and any(Path(_place(name)).is_relative_to(path) for path in written)

    for word in given:
        if word == STDIN or not glob.has_magic(word) or os.path.exists(word):
            names.append(word)
            continue
        found = [name for name in sorted(glob.glob(word, recursive=True)) if not is_written(name)]
        if not found:
            raise ScoreError(f"no file matches {word!r}; check the pattern, or name the files.")
        names += found
    places = Counter(map(_place, names))
    if twice := [name for name in names if places[_place(name)] > 1]:
        raise ScoreError(f"{twice[0]} is named twice; name each input once, or its documents count double.")
    for name in names:
        if is_written(name):
            raise ScoreError(f"{name} is an input and an output of the same run; name another output.")
    return [_source(name, input_format) for name in names]


def _place(name: str) -> str:
    return name if name == STDIN else os.path.abspath(name)


def _source(name: str, input_format: str | None) -> Source:
    if name != STDIN and os.path.isdir(name):
        source = Source(name, "folder")
        if next(source.files(), None) is None:
            raise ScoreError(
                f"the folder {name} holds no .txt file; name files of other formats by a pattern, such as "
                f"'{name.rstrip('/')}/*.jsonl'."
            )
        return source
    known = _by_suffix(f"-.{input_format or 'jsonl'}" if name == STDIN else name)
    if known is None and input_format:
        known = _by_suffix(f"-.{input_format}")
    if known is None or (name == STDIN and known[0] in ("parquet", "txt")):
        raise ScoreError(
            f"the format of {name!r} is not known or cannot be read from there; expected {KNOWN}, or say "
            "--input-format jsonl, csv, tsv, jsonl.gz …"
        )
    if known[0] == "parquet":
        needs_corpora_extra("pyarrow", "Parquet")
    if known[1] == "zst":
        needs_corpora_extra("zstandard", ".zst")
    return Source(name, *known)


def _by_suffix(name: str) -> tuple[SourceFormat, Compression] | None:
    path = Path(name)
    compression = _COMPRESSIONS.get(path.suffix.lower(), "")
    format_ = _BY_SUFFIX.get((path.with_suffix("") if compression else path).suffix.lower())
    if format_ is None or (compression and format_ not in _COMPRESSIBLE):
        return None
    return format_, compression


def _raise(error: OSError) -> None:
    raise error  # a folder that cannot be listed must not look empty


def _size_and_hash(path: Path) -> tuple[int | None, str | None]:
    """None of a file that cannot be read: it becomes a reject."""
    if not os.path.isfile(path):  # asks without an error, unlike Path, where a folder forbids it
        return None, None
    try:
        return path.stat().st_size, file_sha256(path)
    except OSError:
        return None, None
