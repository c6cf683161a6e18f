"""A model folder: everything inference needs, checked when it is opened."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field

from serving.decode import tag_names
from serving.document_head import LabelSet
from serving.errors import ModelFolderError
from serving.windows import WindowShape


@dataclass(frozen=True, slots=True)
class FileNames:
    """The files of a model folder."""

    graph: str = "model.onnx"
    tokenizer: str = "tokenizer.json"
    config: str = "config.json"
    manifest: str = "manifest.json"
    metrics: str = "metrics.json"
    card: str = "README.md"
    tokenizer_settings: str = "tokenizer_config.json"
    weights: str = "model.safetensors"

    def needed(self) -> tuple[str, ...]:
        """What inference cannot do without."""
        return (self.graph, self.tokenizer, self.config, self.manifest)


FILES = FileNames()


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelConfig(_Frozen):
    """One document label; `threshold` is a calibrated probability."""

    name: str
    axis: str
    threshold: float = Field(ge=0, le=1)
    definition: str


class TypeConfig(_Frozen):
    """One span type."""

    name: str
    definition: str


class WindowConfig(_Frozen):
    """Tokens a window holds (specials included) and how far the next one starts."""

    size: int
    stride: int


class Temperatures(_Frozen):
    """What logits are divided by before they become probabilities."""

    spans: float = Field(gt=0)
    labels: float = Field(gt=0)


class SpecialTokens(_Frozen):
    """Ids of the tokens that frame and fill a window."""

    cls: int
    sep: int
    pad: int


class Limits(_Frozen):
    """The longest title and text that are read; beyond it an item gets `too_long`."""

    max_characters: int = 2_000_000


class EmbargoConfig(_Frozen):
    """The part of `config.json` that is ours; the rest is the encoder's, as BERT's is."""

    name: str
    version: str
    graph_variant: str
    types: tuple[TypeConfig, ...]
    labels: tuple[LabelConfig, ...]
    window: WindowConfig
    special_tokens: SpecialTokens
    temperatures: Temperatures
    limits: Limits = Limits()

    def window_shape(self) -> WindowShape:
        """The window cutter of this model."""
        return WindowShape(self.window.size, self.window.stride)

    def label_set(self) -> LabelSet:
        """The document labels as the decoder wants them."""
        return LabelSet(
            names=tuple(label.name for label in self.labels),
            axes=tuple(label.axis for label in self.labels),
            thresholds=tuple(label.threshold for label in self.labels),
            temperature=self.temperatures.labels,
        )

    def type_names(self) -> tuple[str, ...]:
        """The span types in the order of the tag head."""
        return tuple(kind.name for kind in self.types)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """An opened and checked model folder."""

    path: Path
    config: EmbargoConfig
    sha256: str
    """Of `manifest.json`, which names the hash of every other file."""

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> "ModelFolder":
        """Read and check a folder; `verify` compares every file with the manifest's hash.

        Raises ModelFolderError that names the file that is missing, unreadable or does not match.
        """
        folder = Path(path)
        try:
            return cls._open(folder, verify=verify)
        except OSError as error:
            raise ModelFolderError(
                f"{error.filename or folder} cannot be read ({error.strerror}); check its owner and "
                "permissions, or copy the whole folder again."
            ) from error

    @classmethod
    def _open(cls, folder: Path, *, verify: bool) -> "ModelFolder":
        if not folder.is_dir():
            raise ModelFolderError(
                f"{folder} is not a folder; expected a model folder with {', '.join(FILES.needed())}. "
                "Train one with `make train`, or name a released one such as models/embargo-base-v3."
            )
        for name in FILES.needed():
            if not (folder / name).is_file():
                raise ModelFolderError(
                    f"{folder / name} is missing; a model folder holds {', '.join(FILES.needed())}. "
                    "Copy the whole folder again, or train the model again."
                )
        manifest_bytes = (folder / FILES.manifest).read_bytes()
        if verify:
            _verify(folder, manifest_bytes)
        return cls(folder, _read_config(folder), hashlib.sha256(manifest_bytes).hexdigest())


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(folder: Path, manifest_bytes: bytes) -> None:
    try:
        expected: dict[str, str] = dict(orjson.loads(manifest_bytes)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f'{folder / FILES.manifest} has no table "files" of SHA-256 hashes ({error!r}); '
            "copy the whole folder again, or train the model again."
        ) from error
    for name, sha256 in expected.items():
        path = folder / name
        if name == FILES.weights:
            continue  # only retraining needs them; a release may leave them out
        if not path.is_file():
            raise ModelFolderError(
                f"{path} is missing, though the manifest lists it. Copy the whole folder again."
            )
        if (got := file_sha256(path)) != sha256:
            raise ModelFolderError(
                f"{path} has SHA-256 {got[:12]}…, the manifest says {str(sha256)[:12]}…; "
                "the file was altered or cut. Copy the whole folder again, or train the model again."
            )


def _read_config(folder: Path) -> EmbargoConfig:
    path = folder / FILES.config
    try:
        raw = orjson.loads(path.read_bytes())
        config = EmbargoConfig.model_validate(raw["embargo"])
        tags = [raw["id2label"][str(i)] for i in range(len(raw["id2label"]))]
    except (ValueError, KeyError, TypeError) as error:  # ValidationError is a ValueError
        raise ModelFolderError(
            f"{path} cannot be used: {error}. Copy the whole folder again, or train the model again."
        ) from error
    if tags != tag_names(config.type_names()):
        raise ModelFolderError(
            f"{path}: id2label lists {tags[:3]}…, expected O, then B-, then I- of the types in "
            "order. Copy the whole folder again, or train the model again."
        )
    return config
