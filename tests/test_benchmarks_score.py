"""The benchmark of `embargo score` reads the same documents twice and compares like with like."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.memory import MIB
from benchmarks.score import _COMMAND, Cost, _run, report, texts
from serving.errors import CorpusError
from tests.conftest import ROOT
from tests.corpora import documents, write_corpus


def test_texts_never_come_twice_and_keep_their_length(tmp_path: Path) -> None:
    rows = documents(8)
    corpus = write_corpus(tmp_path / "a.jsonl", rows)
    made = list(islice(texts([corpus]), 16))
    assert len(set(made)) == 16
    assert [sorted(text.split()) for text in made[:8]] == [sorted(row["text"].split()) for row in rows]
    with pytest.raises(CorpusError, match="and no more; name more files by --data"):
        list(texts([corpus]))


def test_the_ratio_leaves_the_start_of_the_command_out() -> None:
    found = {
        "engine": [Cost(9.7, 18.0, 500.0), Cost(50.0, 90.0, 510.0), Cost(9.0, 17.0, 505.0)],
        "score": [Cost(12.0, 22.0, 600.0), Cost(11.0, 21.0, 590.0), Cost(12.5, 23.0, 610.0)],
        "start": [Cost(2.0, 2.0, 300.0), Cost(1.9, 1.9, 300.0), Cost(2.1, 2.1, 300.0)],
    }
    made = report(found, 970)
    assert made["documents_per_second"] == pytest.approx({"engine": 100.0, "score": 97.0})
    assert made["ratio"] == pytest.approx(0.97)
    assert made["ratio_with_start"] == pytest.approx(9.7 / 12)
    assert made["ratio_of_cpu_seconds"] == pytest.approx(0.9)
    assert made["peak_rss_mib"] == {"engine": 510.0, "score": 610.0, "start": 300.0}


def test_the_peak_of_a_child_does_not_begin_with_ours() -> None:
    held = np.ones(400 * MIB, dtype=np.uint8)
    printed, cost = _run(["-c", _COMMAND, "score", "--help"])
    assert "Usage" in printed
    assert 5 < cost.peak_rss_mib < held.nbytes / MIB


def test_the_command_measures_both(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.score", "--model", str(tiny_folder)]
    command += ["--documents", "64", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    made = orjson.loads(done.stdout)
    assert made["documents"] == 64
    assert {name: len(costs) for name, costs in made["rounds"].items()} == {
        "engine": 1,
        "score": 1,
        "start": 1,
    }
    assert all(cost["seconds"] > 0 for (cost,) in made["rounds"].values())
    assert b"read 64 = written 64 + rejected 0" in done.stderr
