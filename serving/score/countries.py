"""The country that a name, an adjective or a people stands for, by its whole surface."""

import tomllib
from functools import cache
from importlib.resources import files


def country_code(surface: str) -> str | None:
    """ISO 3166 code, in lower case, of "North Korea", "the U.S." or "Iranian"; None if it is of none."""
    return _codes().get(_key(surface))


@cache
def _codes() -> dict[str, str]:
    table = tomllib.loads((files("serving.score") / "countries.toml").read_text(encoding="utf-8"))
    return {_key(name): code for code, names in table.items() for name in names}


def _key(surface: str) -> str:
    words = surface.replace(".", "").split()
    if words and words[0] in ("the", "The"):
        del words[0]
    name = " ".join(words)
    return name if len(name) <= len("UAE") else name.casefold()  # "us" is no country
