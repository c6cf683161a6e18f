"""Commands that need more than serving say so, and how to get it."""

from serving.errors import EmbargoError


def needs_training_extra() -> None:
    """Raise EmbargoError with the fix if the training extra is not installed."""
    try:
        import datasketch  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise EmbargoError(
            f"this command needs the training extra ({error.name} is missing); run it through make "
            "(`make train`), or install with: pip install -c constraints.txt -e '.[train]'"
        ) from error


def needs_baselines_extra() -> None:
    """Raise EmbargoError with the fix if the systems to compare with are not installed."""
    try:
        import sklearn  # noqa: F401
        import spacy  # noqa: F401
    except ModuleNotFoundError as error:
        raise EmbargoError(
            f"baselines need their extra ({error.name} is missing); run `make baselines`, or install with: "
            "pip install -c constraints.txt -e '.[train,baselines]'"
        ) from error
