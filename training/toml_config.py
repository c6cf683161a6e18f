"""Settings as a frozen dataclass: defaults in code, overridden by a TOML file or by flags."""

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

from serving.errors import TrainingError


@dataclass(frozen=True, slots=True)
class TomlConfig:
    """Base of frozen dataclasses of numbers, strings, booleans and tuples of strings."""

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Defaults with the keys of a TOML file put over them."""
        try:
            return cls().updated(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise TrainingError(f"{path} is no readable TOML file: {error}") from error

    def updated(self, values: dict[str, Any]) -> Self:
        """A copy with other values. Raises TrainingError at an unknown key or a wrong type."""
        types = get_type_hints(type(self))
        for key, value in values.items():
            if key not in types:
                known = ", ".join(field.name for field in fields(self))
                raise TrainingError(f"unknown setting {key!r}; known are {known}")
            wanted: Any = types[key]
            if wanted is float:
                wanted = (int, float)
            elif wanted == tuple[str, ...]:
                wanted = list
            if not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool):
                expected = "list of strings" if wanted is list else types[key].__name__
                raise TrainingError(
                    f"setting {key} is {value!r}, a {type(value).__name__}; expected {expected}"
                )
            if key.endswith("_share") and not 0 <= value <= 1:
                raise TrainingError(f"setting {key} is {value}; expected a share from 0 to 1")
            if wanted is list and not all(isinstance(item, str) for item in value):
                raise TrainingError(f"setting {key} is {value}; expected a list of strings")
        tuples = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        config = replace(self, **{**values, **tuples})
        config.check()
        return config

    def check(self) -> None:
        """Raises TrainingError at values that no run can have."""
