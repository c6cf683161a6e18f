"""The time to the first answer is that of a fresh process; one that fails is named."""

from pathlib import Path

import orjson
import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import start
from serving.errors import EmbargoError


def test_medians_of_fresh_processes(tiny_folder: Path) -> None:
    app = Typer()
    app.command()(start.start)
    options = ["--model", str(tiny_folder), "--processes", "2", "--idle-seconds", "0.1"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert (found["model"], found["processes"]) == (tiny_folder.name, 2)
    seconds = ("import_s", "load_s", "first_answer_s")
    assert all(found[name] > 0 for name in seconds)
    assert found["import_to_ready_s"] > max(found["import_s"], found["load_s"])


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(EmbargoError, match=r"(?s)did not start: .*is not a folder"):
        start._fresh(tmp_path / "nowhere", 0.1)
