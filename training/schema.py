"""The label schema: names and definitions of span types and document labels."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from serving.decode import tag_names
from serving.errors import CorpusError
from serving.model_folder import EmbargoConfig

DEFAULT_SCHEMA = Path("datasets/schema.toml")


@dataclass(frozen=True, slots=True)
class Schema:
    """Span types and document labels in the order of the model's heads."""

    types: dict[str, str]
    """Definition by name."""
    labels: dict[str, str]
    """Definition by name."""
    axes: dict[str, str]
    """Axis by label name."""

    @property
    def tags(self) -> list[str]:
        """BIO tags in the order of the tag head."""
        return tag_names(list(self.types))

    def labels_of(self, axis: str) -> list[str]:
        """The labels of one axis."""
        return [label for label, its_axis in self.axes.items() if its_axis == axis]


def schema_of(corpus: Path) -> Path:
    """The schema beside a corpus (in its folder or above its file), or else the project's own."""
    folder = corpus if corpus.is_dir() else corpus.parent
    beside = folder / DEFAULT_SCHEMA.name
    return beside if beside.is_file() else DEFAULT_SCHEMA


def schema_of_model(config: EmbargoConfig) -> Schema:
    """The types and labels that a model was trained for."""
    return Schema(
        types={kind.name: kind.definition for kind in config.types},
        labels={label.name: label.definition for label in config.labels},
        axes={label.name: label.axis for label in config.labels},
    )


def load_schema(path: Path = DEFAULT_SCHEMA) -> Schema:
    """Read a `schema.toml`. Raises CorpusError where it is missing or has no such tables."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        labels = [
            (name, definition, axis)
            for axis, table in raw["labels"].items()
            for name, definition in table.items()
        ]
        return Schema(
            types=dict(raw["types"]),
            labels={name: definition for name, definition, _ in labels},
            axes={name: axis for name, _, axis in labels},
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise CorpusError(
            f"{path} is no label schema ({error!r}); expected a TOML file with a table [types] and "
            "one table [labels.<axis>] an axis, as datasets/schema.toml has."
        ) from error
