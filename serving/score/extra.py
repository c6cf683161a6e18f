"""What some runs need and most do not: who lacks it is told how to get it."""

from importlib.util import find_spec

from serving.errors import ScoreError


def needs_extra(library: str, extra: str, wanted_for: str) -> None:
    """Raise ScoreError with the fix if `library` is not installed."""
    if find_spec(library) is None:
        raise ScoreError(
            f"{wanted_for} needs {library}, which is not installed; install it with: "
            f"pip install -c constraints.txt -e '.[{extra}]'"
        )


def needs_corpora_extra(library: str, wanted_for: str) -> None:
    """The same for Parquet and .zst."""
    needs_extra(library, "corpora", wanted_for)
