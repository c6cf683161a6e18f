"""A run that was cut off goes on to the same bytes; another run cannot pass for it."""

import fcntl
import gzip
import io
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ScoreError
from serving.model_folder import ModelFolder
from serving.results import Options
from serving.score.finish import locked
from serving.score.job import ScoreJob
from serving.score.manifest import code_sha256
from serving.score.parts import Cut, Part
from serving.score.run import run_score
from serving.score.scoring import Scored
from tests.corpora import Runs, cut_off, documents, jsonl, read_rows, write_corpus

CUT = Cut(rows=3)


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "a.jsonl", documents(12))


def test_what_is_done_is_not_scored_again(runs: Runs, stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    cut_off(runs, stories, to=out, cut=CUT, parts=2)
    assert not out.exists()
    runs.view.read = 0
    outcome = runs(stories, to=out, cut=CUT)
    assert runs.view.read == 6
    assert (outcome.before.read, outcome.counts.read) == (6, 12)
    assert [row["id"] for row in read_rows(out)] == [f"d{n}" for n in range(12)]
    assert not Path(f"{out}.work").exists()


def test_parts_may_be_done_in_any_order(runs: Runs, stories: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "w.jsonl", tmp_path / "o.jsonl"
    runs(stories, to=whole, cut=CUT)
    cut_off(runs, stories, to=out, cut=CUT, parts=3)
    for path in Path(f"{out}.work").glob("part-000001.*"):
        path.unlink()
    runs.view.read = 0
    runs(stories, to=out, cut=CUT)
    assert runs.view.read == 6  # of parts 1 and 3; part 2 had been done
    assert out.read_bytes() == whole.read_bytes()


def test_a_part_that_was_damaged_is_made_again(runs: Runs, stories: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "w.jsonl", tmp_path / "o.jsonl"
    runs(stories, to=whole, cut=CUT)
    cut_off(runs, stories, to=out, cut=CUT, parts=3)
    part = Path(f"{out}.work", "part-000000.jsonl")
    part.write_bytes(part.read_bytes()[:-5])
    Path(f"{out}.work", "part-000004.jsonl.tmp").write_bytes(b"half a")
    runs(stories, to=out, cut=CUT)
    assert out.read_bytes() == whole.read_bytes()


def test_parts_that_no_run_speaks_for_are_not_taken_over(runs: Runs, stories: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "w.jsonl", tmp_path / "o.jsonl"
    runs(stories, to=whole, cut=CUT)
    cut_off(runs, stories, to=out, cut=CUT, parts=3, options=Options(min_score=0.0))
    Path(f"{out}.work", "run.json").unlink()  # as by a kill while the work folder is removed
    assert runs(stories, to=out, cut=CUT).before.read == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": Options(min_score=0.5)}, "min_score was None, now 0.5"),
        ({"with_text": True}, "with_text was False, now True"),
        ({"cut": Cut(rows=4)}, "part_rows was 3, now 4"),
        ({"spans": Path("s.jsonl")}, "spans was None, now s.jsonl"),
        ({"input": "changed"}, "a.jsonl has other content"),
        ({"input": "more"}, "b.jsonl was not there before"),
        ({"input": "gone"}, "a.jsonl has other content"),
        ({"model": "other"}, "sha256 was"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_run_cannot_go_on_with_it(
    runs: Runs,
    stories: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
    is_finished: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("o.jsonl")
    if is_finished:
        runs("a.jsonl", to=out, cut=CUT)
    else:
        cut_off(runs, "a.jsonl", to=out, cut=CUT, parts=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("o.*") if path.is_file()}
    inputs, asked = ["a.jsonl"], {"cut": CUT, **change}
    match asked.pop("input", None):
        case "changed":
            stories.write_bytes(stories.read_bytes().replace(b"oil", b"tin", 1))
        case "more":
            inputs.append(str(shutil.copy("a.jsonl", "b.jsonl")))
        case "gone":
            stories.unlink()
    if asked.pop("model", None):
        shutil.copytree(runs.folder.path, "other")
        manifest = Path("other", "manifest.json")
        manifest.write_bytes(manifest.read_bytes() + b"\n")
        runs.folder = ModelFolder.open("other")
    with pytest.raises(ScoreError, match=f"{message}.*--restart"):
        runs(*inputs, to=out, **asked)
    assert {path: path.read_bytes() for path in tmp_path.rglob("o.*") if path.is_file()} == before
    outcome = runs(*inputs, to=out, **asked, restart=True)
    assert outcome.before.read == 0
    assert len(read_rows(out)) == outcome.counts.written


def test_a_finished_run_is_known_again(runs: Runs, stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    first = runs(stories, to=out, cut=CUT)
    runs.view.read = 0
    again = runs(stories, to=out, cut=CUT)
    assert runs.view.read == 0
    assert again.counts == first.counts
    out.write_bytes(out.read_bytes()[:-1])
    with pytest.raises(ScoreError, match="no longer what the run wrote"):
        runs(stories, to=out, cut=CUT)


def test_an_output_that_was_taken_away_is_made_again(runs: Runs, stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    runs(stories, to=out, cut=CUT)
    out.unlink()
    stories.write_bytes(stories.read_bytes() + jsonl([{"text": "oil"}]))
    cut_off(runs, stories, to=out, cut=CUT, parts=1)
    assert not Path(f"{out}.manifest.json").exists()
    assert runs(stories, to=out, cut=CUT).counts.read == 13
    assert len(read_rows(out)) == 13


def test_a_run_of_another_version_is_refused(runs: Runs, stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    cut_off(runs, stories, to=out, cut=CUT, parts=1)
    kept = Path(f"{out}.work", "run.json")
    kept.write_bytes(kept.read_bytes().replace(b'"format": 2,', b'"format": 0,'))
    with pytest.raises(ScoreError, match="cuts runs otherwise"):
        runs(stories, to=out, cut=CUT)
    kept.write_bytes(b"{}")
    with pytest.raises(ScoreError, match="not what a run of this version wrote"):
        runs(stories, to=out, cut=CUT)


def test_what_no_run_wrote_is_not_written_over(runs: Runs, stories: Path, tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    for out in (tmp_path / "o.jsonl", tmp_path / "folder"):
        with pytest.raises(ScoreError, match="not from an unfinished run"):
            runs(stories, to=out)
    with pytest.raises(ScoreError, match="other things than parts"):
        runs(stories, to=tmp_path / "folder", restart=True)
    assert (tmp_path / "folder" / "mine").exists()
    runs(stories, to=tmp_path / "o.jsonl", restart=True)
    assert len(read_rows(tmp_path / "o.jsonl")) == 12


@pytest.mark.parametrize("option", ["spans", "rejects"])
def test_no_other_output_is_written_over_either(
    runs: Runs, stories: Path, tmp_path: Path, option: str
) -> None:
    out, beside = tmp_path / "o.jsonl", tmp_path / "mine.jsonl"
    beside.write_bytes(b"mine")
    with pytest.raises(ScoreError, match=r"mine\.jsonl exists and is not from an unfinished run"):
        runs(stories, to=out, **{option: beside})
    assert beside.read_bytes() == b"mine"
    with pytest.raises(ScoreError, match=r"the same file o\.jsonl"):
        runs(stories, to=out, **{option: out})
    runs(stories, to=out, restart=True, **{option: beside})
    assert b"mine" not in beside.read_bytes()


@pytest.mark.parametrize("option", ["spans", "rejects"])
def test_what_a_run_left_outside_of_its_folder_is_its_own(
    runs: Runs, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {"to": Path("out", "o.jsonl"), option: Path("beside.jsonl")}
    runs(stories, **asked)
    made = Path("beside.jsonl").read_bytes()
    Path("out", "o.jsonl").unlink()
    runs(stories, **asked)
    assert Path("beside.jsonl").read_bytes() == made
    assert len(read_rows(Path("out", "o.jsonl"))) == 12


def test_outputs_may_have_names_that_are_no_text(runs: Runs, stories: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes names in UTF-8 alone")
    for name in ("o\udce9.jsonl", "parts\udce9"):
        asked: dict[str, Any] = {"spans": folder / f"spans-{name}.jsonl", "cut": CUT}
        cut_off(runs, stories, to=folder / name, parts=2, **asked)
        runs(stories, to=folder / name, **asked)
        assert runs(stories, to=folder / name, **asked).before.read == 12  # known again
        out = folder / name
        made = sorted(out.iterdir())[0] if out.is_dir() else out
        made.write_bytes(b"")
        with pytest.raises(ScoreError, match="no longer what the run wrote"):
            runs(stories, to=folder / name, **asked)


def test_two_runs_do_not_write_the_same_output(runs: Runs, stories: Path, tmp_path: Path) -> None:
    work = tmp_path / "o.jsonl.work"
    work.mkdir()
    with (work / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ScoreError, match="another run is at work"):
            runs(stories, to=tmp_path / "o.jsonl")
    out = tmp_path / "o.jsonl"
    runs(stories, to=out)
    work.mkdir()
    with (work / "lock").open("wb") as lock:  # nor does one clear up what another is at
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ScoreError, match="another run is at work"):
            runs(stories, to=out)
        assert (work / "lock").exists()
    runs(stories, to=out)
    assert not work.exists()


def test_a_lock_that_was_removed_under_a_run_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, flock, removed = tmp_path / "o.work", fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not removed:
            removed.append((work / "lock").rename(tmp_path / "of a run that ended"))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(work):
        assert (work / "lock").exists()
        with pytest.raises(ScoreError, match="another run is at work"), locked(work):
            pass
    assert not work.exists()


def test_a_refused_run_leaves_nothing(runs: Runs, stories: Path, tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_bytes(b"mine")
    before = set(tmp_path.iterdir())
    with pytest.raises(ScoreError, match="not from an unfinished run"):
        runs(stories, to=tmp_path / "o.jsonl")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("loses", [True, False])
@pytest.mark.parametrize("to", ["o.jsonl", "-"])
def test_an_engine_that_loses_or_doubles_a_part_is_found_out(
    runs: Runs, stories: Path, tmp_path: Path, to: str, loses: bool
) -> None:
    def engine(parts: Iterator[Part]) -> Generator[Scored]:
        for scored in runs.engine(ScoreJob([], ""))(parts):
            if scored.part.number == 1:
                if loses:
                    continue
                scored = replace(scored, results=scored.results * 2)
            yield scored

    out = to if to == "-" else str(tmp_path / to)
    job = ScoreJob([str(stories)], out, cut=CUT, rejects=tmp_path / "r.jsonl")
    with pytest.raises(ScoreError, match="the inputs gave 12 rows" if loses else "gave part 1 twice"):
        run_score(job, runs.folder, engine, runs.view)
    assert not (tmp_path / "o.jsonl").exists()


def test_another_version_of_the_code_is_another_run(
    runs: Runs, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    (package / "score").mkdir(parents=True)
    hashes = []
    for name, content in (("a.py", "A = 1"), ("a.py", "A = 2"), ("a.toml", "a = 1"), ("a.toml", "a = 2")):
        (package / "score" / name).write_text(content)
        hashes.append(code_sha256(package))
    assert len(set(hashes)) == 4
    before = hashes[0]
    cut_off(runs, stories, to=tmp_path / "o.jsonl", cut=CUT, parts=1)
    monkeypatch.setattr("serving.score.manifest.code_sha256", lambda package: before)
    with pytest.raises(ScoreError, match="software: code was"):
        runs(stories, to=tmp_path / "o.jsonl", cut=CUT)


def test_an_input_that_changes_while_it_is_read_is_noticed(runs: Runs, stories: Path, tmp_path: Path) -> None:
    piece = runs.view.piece

    def growing(analyses: Any) -> None:
        piece(analyses)
        with stories.open("ab") as file:
            file.write(jsonl([{"text": "oil"}]))

    runs.view.piece = growing  # type: ignore[method-assign]
    with pytest.raises(ScoreError, match="changed while it was read"):
        runs(stories, to=tmp_path / "o.jsonl", cut=CUT)
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize("name", ["a.txt", "new.txt"])
def test_a_folder_that_changes_while_it_is_read_is_noticed(runs: Runs, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("oil", encoding="utf-8")
    piece = runs.view.piece

    def growing(analyses: Any) -> None:
        piece(analyses)
        (folder / name).write_text("oil and coal", encoding="utf-8")

    runs.view.piece = growing  # type: ignore[method-assign]
    with pytest.raises(ScoreError, match=f"{name} was changed while it was read"):
        runs(folder, to=tmp_path / "o.jsonl", cut=CUT)


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_stdin_goes_on_if_it_is_the_same(
    runs: Runs, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out, content = tmp_path / "w.jsonl", tmp_path / "o.jsonl", stories.read_bytes()
    stdin(monkeypatch, content)
    runs("-", to=whole, cut=CUT)
    stdin(monkeypatch, content)
    cut_off(runs, "-", to=out, cut=CUT, parts=2)
    for other in (content.replace(b"oil", b"tin", 1), content[:100]):
        stdin(monkeypatch, other)
        with pytest.raises(ScoreError, match="not those that were read before"):
            runs("-", to=out, cut=CUT)
    stdin(monkeypatch, content)
    runs("-", to=out, cut=CUT)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("ends_with", ["a full part", "a half part", "a broken rest", "another input"])
@pytest.mark.parametrize("is_finished", [False, True])
def test_all_of_stdin_is_compared_when_every_part_is_done(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_with: str, is_finished: bool
) -> None:
    rows = documents(6 if ends_with == "a full part" else 7)
    content = gzip.compress(jsonl(rows))
    others = [[*rows[:-1], {"text": "tin"}], []]
    if ends_with == "a broken rest":
        content = content[:-8]
        others.append(rows)
    if ends_with != "a full part" or is_finished:  # more behind a full part is a run of more parts
        others.append([*rows, *rows])
    after = [write_corpus(tmp_path / "b.jsonl", documents(5))] if ends_with == "another input" else []
    asked: dict[str, Any] = {"to": tmp_path / "o.jsonl", "input_format": "jsonl.gz"}
    stdin(monkeypatch, content)
    if is_finished:
        runs("-", *after, **asked, cut=CUT)
    else:
        cut_off(runs, "-", *after, **asked, cut=CUT, parts=4 if after else -(-len(rows) // 3))
    for other in others:
        stdin(monkeypatch, gzip.compress(jsonl(other)))
        with pytest.raises(ScoreError, match="the same input again, or --restart"):
            runs("-", *after, **asked, cut=CUT)
    stdin(monkeypatch, content)
    all_rows = len(rows) + 5 * len(after) + (ends_with == "a broken rest")
    assert runs("-", *after, **asked, cut=CUT).before.read == all_rows


def test_a_full_disk_is_one_clear_line_and_can_be_gone_on_from(
    runs: Runs, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.jsonl"
    whole = tmp_path / "w.jsonl"
    runs(stories, to=whole, cut=CUT)
    room = [9]

    def fsync(descriptor: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("serving.score.outputs.os.fsync", fsync)
        with pytest.raises(ScoreError, match=r"No space left on device.*run the same command again"):
            runs(stories, to=out, cut=CUT)
    assert not list(tmp_path.rglob("*.tmp"))
    assert runs(stories, to=out, cut=CUT).before.read > 0
    assert out.read_bytes() == whole.read_bytes()
