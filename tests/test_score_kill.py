"""Kill -9 at any moment: the same command goes on, and leaves what an undisturbed run leaves."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.corpora import Runs, documents, jsonl, read_rows, write_corpus
from tests.kill_loop import contents, kill_loop, killed_at_an_operation, undisturbed


@pytest.mark.parametrize(
    ("name", "over", "least"),
    [
        ("o.jsonl", None, 80),
        ("parts", None, 80),
        ("o.jsonl", "finished", 90),
        ("parts", "unfinished", 90),
    ],
)
def test_killed_before_any_operation_the_same_command_goes_on(
    tiny_folder: Path, tmp_path: Path, name: str, over: str | None, least: int
) -> None:
    rows = [*documents(5), {"text": " "}, documents(1)[0]]
    (tmp_path / "a.jsonl").write_bytes(jsonl(rows))
    command = [sys.executable, "-m", "tests.kill_sweep", tiny_folder, tmp_path / "a.jsonl", tmp_path / "out"]
    command += [name, *(["--over", over] if over else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least  # operations of two parts, of putting them together and cleaning up


@pytest.mark.parametrize(
    ("name", "kills"), [("o.jsonl.gz", 5), ("o.parquet", 3), ("parts", 3)], ids=["gz", "parquet", "folder"]
)
def test_killed_runs_leave_what_an_undisturbed_run_leaves(
    tiny_folder: Path, tmp_path: Path, name: str, kills: int
) -> None:
    write_corpus(tmp_path / "a.jsonl.gz", documents(15))
    (tmp_path / "a.jsonl.gz").write_bytes((tmp_path / "a.jsonl.gz").read_bytes()[:-9])  # a reject
    (tmp_path / "b.jsonl").write_bytes(jsonl([*documents(3), ["bad"], *documents(3)]))
    folder = tmp_path / "out"
    folder.mkdir()
    arguments = ["score", str(tmp_path / "*.jsonl*"), "-o", str(folder / name), "--model", str(tiny_folder)]
    arguments += ["--part-rows", "5", "--spans", str(folder / "spans.parquet")]
    session = killed_at_an_operation(folder, most=45)
    kill_loop(folder, arguments, session, kills, seed=len(name))
    assert f"{name}.rejects.jsonl" in contents(folder)


def test_a_pattern_over_the_outputs_own_folder_finds_the_inputs_alone(runs: Runs, tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl", documents(4))
    for _ in range(2):
        runs(tmp_path / "*.jsonl*", to=tmp_path / "o.jsonl", spans=tmp_path / "s.jsonl")
        (tmp_path / "o.jsonl.tmp").write_bytes(b"left by a kill")
        (tmp_path / "o.jsonl.work").mkdir(exist_ok=True)
    assert len(read_rows(tmp_path / "o.jsonl")) == 4


def test_a_run_killed_while_it_cleans_up_is_finished(tiny_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(4))
    folder = tmp_path / "out"
    arguments = ["score", str(corpus), "-o", str(folder / "o.jsonl"), "--model", str(tiny_folder)]
    assert undisturbed(arguments).returncode == 0
    expected = contents(folder)
    (folder / "o.jsonl.work").mkdir()
    shutil.copy(folder / "o.jsonl", folder / "o.jsonl.work" / "part-000000.jsonl")
    again = undisturbed(arguments)
    assert again.returncode == 0
    assert "4 documents had been done before" in again.stderr
    assert contents(folder) == expected
