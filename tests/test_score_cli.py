"""`embargo score` as it is called: exit codes, what goes to stdout and stderr, pipes, a terminal."""

import gzip
import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from serving.errors import EmbargoError
from serving.results import Analysis, Coverage, Document, Problem
from serving.score.parts import Item, Part, Place
from serving.score.progress import summary
from serving.score.scoring import Counts, Reject, pieces_of, score_parts
from tests.conftest import ROOT
from tests.corpora import Runs, documents, jsonl, read_rows, rejects, write_corpus
from tests.test_cli import embargo
from training.cli import app

EMBARGO = str(Path(sys.executable).parent / "embargo")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Six documents, one of them a copy, and a bad line."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(documents(5)) + b"{\n" + jsonl([{**documents(1)[0], "id": "copy"}]))
    return path


def test_rejects_are_told_and_the_exit_code_says_so(tiny_folder: Path, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    done = embargo("score", mixed, "-o", out, "--model", tiny_folder, "--date-field", "published_at")
    assert (done.returncode, done.stdout) == (3, b"")
    first, *rest = done.stderr.decode().splitlines()
    assert first == "read 7 = written 6 + rejected 1; 1 repeated texts were scored once"
    assert rest[0].startswith("7 documents, ")
    assert rest[1:] == [f"{out}.rejects.jsonl says what could not be scored, and why"]
    assert len(read_rows(out)) == 6
    assert read_rows(out)[0]["published_at"] == "2026-01-01"
    assert [reject["reason"] for reject in rejects(out)] == ["not_json"]


def test_a_clean_run_exits_with_zero_whatever_the_threads(tiny_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.csv", documents(9))
    for threads in ("1", "3"):
        out = tmp_path / f"o{threads}.jsonl"
        done = embargo("score", corpus, "-o", out, "--model", tiny_folder, "--threads", threads, "--evidence")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "o1.jsonl").read_bytes() == (tmp_path / "o3.jsonl").read_bytes()


def test_from_stdin_to_stdout(tiny_folder: Path, mixed: Path, tmp_path: Path) -> None:
    command = ["score", "-", "-o", "-", "--model", tiny_folder, "--rejects", tmp_path / "r.jsonl"]
    content = gzip.compress(mixed.read_bytes())
    more = ["--part-rows", "2", "--input-format", "jsonl.gz", "--format", "jsonl.gz"]
    done = embargo(*command, *more, stdin=content)
    assert done.returncode == 3, done.stderr
    ids = [orjson.loads(line)["id"] for line in gzip.decompress(done.stdout).splitlines()]
    assert ids == ["d0", "d1", "d2", "d3", "d4", "copy"]
    assert read_rows(tmp_path / "r.jsonl")[0]["position"] == {"line": 6, "offset": len(jsonl(documents(5)))}
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "r.jsonl"}


def test_what_goes_to_stdout_is_not_hashed_first(
    runs: Runs, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise AssertionError("an archive was read twice")

    monkeypatch.setattr("serving.score.sources.file_sha256", refuse)
    runs(mixed, to="-", rejects=tmp_path / "r.jsonl")
    assert runs.view.total == mixed.stat().st_size


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["-o", "-"], "--rejects FILE"),
        (["-o", "-", "--rejects", "r.jsonl", "--restart"], "need an output file"),
        (["-o", "-", "--rejects", "r.jsonl", "--format", "parquet"], "need an output file"),
        (["-o", "o.xml"], "says no format"),
        (["-o", "o.jsonl", "--format", "parquet"], "different formats"),
        (["-o", "."], "no name of an output"),
        (["-o", "parts", "--format", "xml"], "unknown output format"),
        (["-o", "o.jsonl", "--offset-unit", "bytes"], "unknown offset unit"),
        (["-o", "o.jsonl", "--input-format", "parquet"], "cannot be read from there"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["score", "-", "--model", str(tiny_folder), *asked], input=b"")
    assert isinstance(result.exception, EmbargoError)  # which `main` prints
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_is_one_line(tiny_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(400))
    command = [EMBARGO, "score", str(corpus), "-o", "-", "--part-rows", "50", "--with-text"]
    command += ["--model", str(tiny_folder), "--rejects", str(tmp_path / "r")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.read(10)
        run.stdout.close()
        errors = run.stderr.read().decode().splitlines()
    assert run.returncode == 1
    assert errors == ["embargo: whoever read the output went away; nothing was kept."]


def test_a_write_that_fails_is_one_line_and_the_run_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(60))
    out = tmp_path / "o.jsonl"
    command = [
        EMBARGO,
        "score",
        str(corpus),
        "-o",
        str(out),
        "--part-rows",
        "10",
        "--model",
        str(tiny_folder),
    ]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    failed = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, preexec_fn=small_files)
    assert failed.returncode == 1
    assert "cannot be written or read (File too large)" in failed.stderr.decode()
    assert len(failed.stderr.splitlines()) == 1
    assert not (tmp_path / "o.jsonl").exists()
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    assert "documents had been done before" in done.stderr.decode()
    assert len(read_rows(tmp_path / "o.jsonl")) == 60


def test_a_terminal_shows_progress(tiny_folder: Path, mixed: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [EMBARGO, "score", str(mixed), "-o", str(tmp_path / "o.jsonl"), "--model", str(tiny_folder)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    with subprocess.Popen(command, stderr=theirs, cwd=ROOT, env=environment) as run:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert run.returncode == 3
    assert b"documents/s" in shown
    assert b"100%" in shown


def part(number: int) -> Part:
    document = Document(f"text {number}", id=number)
    items = (Item("a", {"line": 1}, number, document), Item("a", {"line": 2}, None, Problem("bad", "Bad.")))
    return Part(number, items, Place(), 0.5)


def test_the_next_part_is_with_the_engine_while_one_is_written() -> None:
    happened: list[str] = []

    def parts() -> list[Part]:
        for number in range(3):
            happened.append(f"read {number}")
            yield part(number)

    def analyze(given: list[Document]) -> list[Analysis]:
        return [Analysis(document.id, coverage=Coverage(2, 1)) for document in given]

    for scored in score_parts(parts(), analyze):
        happened.append(f"write {scored.part.number}")
        assert isinstance(scored.results[1], Reject)
        counts = scored.counts(written=1, rejected=1)
        assert counts == Counts(read=2, written=1, rejected=1, repeated=0, tokens=2)
    assert happened == ["read 0", "read 1", "write 0", "read 2", "write 1", "write 2"]


def test_what_the_engine_raises_reaches_the_run() -> None:
    def analyze(given: list[Document]) -> list[Analysis]:
        raise MemoryError("too much")

    with pytest.raises(MemoryError, match="too much"):
        list(score_parts([part(0)], analyze))


def test_pieces_follow_from_the_documents_alone() -> None:
    given = [Document("x" * length) for length in [10] * 600 + [400_000, 99_999, 1, 700_000, 5]]
    pieces = list(pieces_of(given))
    assert [document for piece in pieces for document in piece] == given
    assert [len(piece) for piece in pieces] == [256, 256, 90, 2, 1]


def test_the_summary_reconciles() -> None:
    counts = Counts(read=1200, written=1190, rejected=10, repeated=3, tokens=50_000)
    before = Counts(read=200, written=199, rejected=1, repeated=0, tokens=10_000)
    assert summary(counts, before, 10.0).splitlines() == [
        "read 1,200 = written 1,190 + rejected 10; 3 repeated texts were scored once",
        "1,000 documents, 40,000 tokens in 10.0 s: 100.0 documents/s, 4,000 tokens/s",
        "200 documents had been done before",
    ]
