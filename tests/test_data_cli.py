"""`embargo data …` as a user types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.errors import CorpusError
from training.cli import app
from training.corpus import AnnotatedDocument, Span, read_corpus, write_corpus
from training.split import split_documents


def data(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def file(tmp_path: Path, corpus: list[AnnotatedDocument]) -> Path:
    write_corpus(tmp_path / "all.jsonl", corpus)
    return tmp_path / "all.jsonl"


def test_export_and_import_come_back(file: Path, tmp_path: Path) -> None:
    data("export", file, "--format", "label-studio", "-o", tmp_path / "tasks.json")
    data("import", tmp_path / "tasks.json", "--format", "label-studio", "-o", tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_bytes() == file.read_bytes()


def test_what_a_format_cannot_hold_is_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="--allow-loss"):
        data("export", file, "--format", "conll", "-o", tmp_path / "x.conll")
    output = data("export", file, "--format", "conll", "-o", tmp_path / "x.conll", "--allow-loss")
    assert "not carried over: cats (12×)" in output
    assert "not carried over: spacing (12×)" in output


def test_an_unknown_format_lists_the_known(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="expected one of doccano"):
        data("export", file, "--format", "xml", "-o", tmp_path / "x")
    assert "prodigy" in data("formats")


def test_stats_count_and_draw(file: Path, tmp_path: Path) -> None:
    output = data("stats", file, "--picture", tmp_path / "p.png")
    assert "12" in output
    assert "LOCATION" in output
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_split_shares_nothing_and_keeps_copies_together() -> None:
    texts = [" ".join(f"w{n}x{i}" for i in range(40)) for n in range(40)]
    documents = [AnnotatedDocument(f"{n}{c}", text, (), ()) for n, text in enumerate(texts) for c in "ab"]
    split = split_documents(documents, 0.2, 0.2, seed=1)
    assert sorted(d.id for part in split.values() for d in part) == sorted(d.id for d in documents)
    for part in split.values():
        ids = {d.id for d in part}
        assert {i[:-1] + "a" for i in ids} <= ids
    assert 10 <= len(split["test"]) <= 16
    assert split == split_documents(documents, 0.2, 0.2, seed=1)
    assert split != split_documents(documents, 0.2, 0.2, seed=2)


def test_split_writes_a_corpus_folder(file: Path, tmp_path: Path) -> None:
    data("split", file, "-o", tmp_path / "folder", "--dev", 0.25, "--test", 0.25)
    parts = [list(read_corpus(tmp_path / "folder" / f"{s}.jsonl")) for s in ("train", "dev", "test")]
    assert sum(map(len, parts)) == 12


def test_validate_names_what_is_wrong(tmp_path: Path) -> None:
    write_corpus(
        tmp_path / "train.jsonl", [AnnotatedDocument("a", "Kim", (Span(0, 9, "PERSON"),), ("relief",))]
    )
    with pytest.raises(CorpusError, match=r"text\[0:9\] 'Kim' PERSON"):
        data("validate", tmp_path)


def test_validate_takes_a_file_and_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = data("validate", "--help")
    assert "or one file" in shown
    assert "(default: the corpus's schema.toml, or ours)" in shown
