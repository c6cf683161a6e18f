"""How every benchmark is run from the command line, and how it ends."""

import signal
from collections.abc import Callable

import typer

from serving.errors import EmbargoError


def run_command(command: Callable[..., None]) -> None:
    """Run a benchmark with the options of the command line.

    Ended by SIGTERM it still leaves its context managers, so that no process stays that it started.
    """
    signal.signal(signal.SIGTERM, _leave)
    try:
        typer.run(command)
    except EmbargoError as error:
        typer.echo(f"{command.__name__}: {error}", err=True)
        raise SystemExit(1) from error


def _leave(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: leaving takes a bounded time
    raise SystemExit(128 + number)
