"""Where the time of a forward pass goes: the operators of a model's graph, dearest first.

    python -m benchmarks.operators --tokens 400

runs windows of random tokens on one thread, as the engine does, and prints milliseconds and share of
each operator, with the tokens a second of the whole pass.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_command
from serving.forward import Batch, TokenOutputs, session_of, session_options
from serving.model_folder import FILES, ModelFolder
from serving.settings import RELEASED_MODEL, find_model

_WARM_UP = 3
"""Passes before any that count."""


def operators(
    model: Annotated[str, typer.Option(help="Model folder.")] = str(RELEASED_MODEL),
    tokens: Annotated[int, typer.Option(min=1, help="Of a window.")] = 400,
    windows: Annotated[int, typer.Option(min=1, help="Of a pass.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="JSON in the place of a table.")] = False,
) -> None:
    """Profile the graph of a model."""
    folder = ModelFolder.open(find_model(Path(model)))
    found = profile(folder.path / FILES.graph, windows, tokens)
    if as_json:
        sys.stdout.buffer.write(orjson.dumps({"model": folder.path.name, **found}) + b"\n")
        return
    table = Table("operator", "nodes", "ms", "share")
    for row in found["operators"]:
        table.add_row(row["operator"], f"{row['nodes']}", f"{row['milliseconds']:.2f}", f"{row['share']:.1%}")
    Console().print(
        f"{folder.path.name}, {windows} x {tokens} tokens, one thread: "
        f"{found['tokens_per_second']:,.0f} tokens a second",
        table,
        sep="\n",
    )


def profile(graph: Path, windows: int, tokens: int, *, seconds: float = 3.0) -> dict[str, Any]:
    """Tokens a second, and of each operator its nodes, milliseconds a pass and share; runs for `seconds`."""
    with tempfile.TemporaryDirectory() as scratch:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch, "profile"))
        session = session_of(graph, options)
        feed = _random_batch(windows, tokens).feed(session)
        took: list[float] = []
        until = time.perf_counter() + seconds
        while len(took) <= _WARM_UP or time.perf_counter() < until:
            began = time.perf_counter()
            session.run(TokenOutputs._fields, feed)
            took.append(time.perf_counter() - began)
        events = orjson.loads(Path(session.end_profiling()).read_bytes())
    spent: Counter[str] = Counter()
    nodes: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
            nodes[event["args"]["op_name"]] += 1
    passes = len(took)
    return {
        "windows": windows,
        "tokens": tokens,
        "tokens_per_second": windows * tokens / float(np.median(took[_WARM_UP:])),
        "operators": [
            {
                "operator": name,
                "nodes": nodes[name] // passes,
                "milliseconds": microseconds / passes / 1000,
                "share": microseconds / spent.total(),
            }
            for name, microseconds in spent.most_common()
        ],
    }


def _random_batch(windows: int, tokens: int) -> Batch:
    random = np.random.default_rng(1)
    shape = windows, tokens
    return Batch(random.integers(5, 60, shape), random.integers(0, 27, shape), np.ones(shape, np.int64))


if __name__ == "__main__":
    run_command(operators)
