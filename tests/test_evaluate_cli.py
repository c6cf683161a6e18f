"""`embargo evaluate` as a user types it: figures, files, and how thresholds were had."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from serving.errors import CorpusError
from tests.conftest import ROOT
from training.cli import app
from training.corpus import AnnotatedDocument, write_corpus
from training.predictions import Prediction, predictions_file, write_predictions


def evaluate(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_evaluate_says_how_thresholds_were_had_and_puts_others_beside(
    tmp_path: Path, tiny_folder: Path, corpus: list[AnnotatedDocument]
) -> None:
    file = tmp_path / "test.jsonl"
    write_corpus(file, [replace(d, text=f"{d.text} again") for d in corpus])
    other = tmp_path / "others" / "silence"
    write_predictions(predictions_file(other, file), [Prediction(d.id, ()) for d in corpus])
    found = {}
    for flag in ([], ["--cross-fit"]):
        out = tmp_path / f"out{len(flag)}"
        output = evaluate("--model", tiny_folder, "--data", file, "-o", out, "--against", other.parent, *flag)
        assert "silence" in output.replace("\n", "")
        assert "silence" in (out / "report.html").read_text(encoding="utf-8")
        report = orjson.loads((out / "report.json").read_bytes())
        found[len(flag)] = report["data"][str(file)]["label_thresholds"]
    assert found == {0: "model", 1: "cross-fitted"}


def test_a_folder_of_others_that_is_not_there_is_refused(
    tmp_path: Path, tiny_folder: Path, corpus: list[AnnotatedDocument]
) -> None:
    write_corpus(tmp_path / "test.jsonl", corpus)
    with pytest.raises(CorpusError, match="not a folder"):
        evaluate("--model", tiny_folder, "--data", tmp_path / "test.jsonl", "--against", tmp_path / "none")


def test_make_measures_on_real_documents_unless_data_is_given(tmp_path: Path) -> None:
    real = tmp_path / "shared" / "real" / "dev.jsonl"
    real.parent.mkdir(parents=True)
    real.touch()
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(ROOT / "Makefile", clone)
    for needed in ("pyproject.toml", "constraints.txt"):
        (clone / needed).touch()

    def evaluated(*variables: str) -> str:
        command = ["make", "-n", "-C", str(clone), "evaluate", *variables]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.partition("--data ")[2].partition("\n")[0]

    assert evaluated() == '"datasets/sanctions-news ../shared/real/dev.jsonl"'
    assert evaluated("DATA=mine").split() == ['"mine', '"']
