"""Parquet and .zst need the extra `corpora`; who lacks it is told how to get it."""

from importlib.util import find_spec

from serving.errors import ScoreError


def needs_corpora_extra(library: str, wanted_for: str) -> None:
    """Raise ScoreError with the fix if `library` is not installed."""
    if find_spec(library) is None:
        raise ScoreError(
            f"{wanted_for} needs {library}, which is not installed; install it with: "
            "pip install -c constraints.txt -e '.[corpora]'"
        )
