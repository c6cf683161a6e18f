"""`embargo calibrate`, `average` and `export` as a user types them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving.errors import CorpusError, TrainingError
from training import reexport
from training.cli import app
from training.corpus import AnnotatedDocument, write_corpus
from training.gate import GateReport
from training.reexport import Int8Job


def embargo(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def mine(tmp_path: Path, corpus: list[AnnotatedDocument]) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for split in ("train", "dev"):
        write_corpus(folder / f"{split}.jsonl", corpus)
    return folder


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Int8Job]:
    """What would have been quantised."""
    found: list[Int8Job] = []

    def export_int8(folder: Path, target: Path, job: Int8Job) -> tuple[GateReport, Mapping[str, Any]]:
        found.append(job)
        return GateReport(0.0, 0.0, 0.0), {}

    monkeypatch.setattr(reexport, "export_int8", export_int8)
    return found


def files(job: Int8Job) -> Mapping[str, Sequence[Path]]:
    return {role: list(paths) for role, paths in job.files.items()}


def test_int8_reads_the_corpora_that_are_named_and_no_other(
    tiny_folder: Path, mine: Path, tmp_path: Path, jobs: list[Int8Job], corpus: list[AnnotatedDocument]
) -> None:
    other = tmp_path / "other.jsonl"
    write_corpus(other, corpus[:3])
    command = ("export", "--int8", "--model", tiny_folder, "-o", tmp_path / "int8", "--data", mine)
    embargo(*command)
    embargo(*command, "--gate", other)
    embargo(*command, "--ranges", other)
    train, dev = mine / "train.jsonl", mine / "dev.jsonl"
    assert [files(job) for job in jobs] == [
        {"ranges": [train], "gate": [dev], "dev": [dev]},
        {"ranges": [train], "gate": [other], "dev": [dev]},
        {"ranges": [other], "gate": [dev], "dev": [dev]},
    ]
    assert [(len(job.ranges), len(job.gate)) for job in jobs] == [(12, 12), (12, 3), (3, 12)]


def test_int8_without_a_corpus_says_what_to_add(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--data my-corpus"):
        embargo("export", "--int8", "--model", tiny_folder, "-o", tmp_path / "int8")


def test_int8_without_documents_for_ranges_names_the_option(
    tiny_folder: Path, mine: Path, tmp_path: Path
) -> None:
    (mine / "train.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"no train\.jsonl; .* with --ranges"):
        embargo("export", "--int8", "--model", tiny_folder, "-o", tmp_path / "int8", "--data", mine)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("mien", "does not exist"), ("mine/dev.jsonl", "is a file"), ("empty", "is a folder with neither")],
)
@pytest.mark.parametrize("command", ["calibrate", "average", "export"])
def test_a_corpus_with_nothing_to_measure_on_is_refused(
    tiny_folder: Path, mine: Path, tmp_path: Path, command: str, wrong: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    arguments: dict[str, list[object]] = {
        "calibrate": ["--model", tiny_folder, "-o", tmp_path / "out"],
        "average": [tiny_folder, tiny_folder],
        "export": ["--int8", "--model", tiny_folder, "-o", tmp_path / "out"],
    }
    with pytest.raises(CorpusError, match=f"{wrong} {message}; expected a corpus folder"):
        embargo(command, *arguments[command], "--data", f"{mine} {tmp_path / wrong}")
