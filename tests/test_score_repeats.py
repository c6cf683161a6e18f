"""Each text of a run is scored once, however far its copies lie apart, and nothing else changes."""

import tracemalloc
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ScoreError
from serving.results import Analysis, Coverage, Document, Options
from serving.score.job import ScoreJob
from serving.score.parts import Cut, Item, Part, Place
from serving.score.repeats import Repeats
from serving.score.run import run_score
from serving.score.scoring import Scored, score_parts
from tests.corpora import Runs, cut_off, documents, jsonl, read_rows, rejects

CUT = Cut(rows=4)
ASKED = Options(min_score=0.0, evidence=True)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Five parts of four rows; the third holds copies only, others some."""
    rows = documents(8)
    again = [rows[i] for i in (7, 0, 0, 3, *range(2), 5)]
    fresh = documents(12)[8:]
    mixed = [*rows, *again[:4], fresh[0], again[4], fresh[1], again[5], again[6], *fresh[2:], fresh[0]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl([{**row, "id": n} for n, row in enumerate(mixed)]))
    return path


def test_copies_in_other_parts_are_not_scored_again(runs: Runs, copies: Path, tmp_path: Path) -> None:
    outcome = runs(copies, to=tmp_path / "o.jsonl", cut=CUT, options=ASKED)
    assert (outcome.counts.read, outcome.counts.written, outcome.counts.repeated) == (20, 20, 8)
    assert runs.view.read == 12
    rows = read_rows(tmp_path / "o.jsonl")
    assert [row["id"] for row in rows] == list(range(20))
    for copy, first in ((8, 7), (9, 0), (10, 0), (11, 3), (13, 0), (15, 1), (16, 5), (19, 12)):
        assert rows[first]["entities"]
        assert rows[copy] == {**rows[first], "id": copy}


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.parquet", "parts"])
def test_a_run_with_copies_goes_on_to_the_same_bytes(
    runs: Runs, copies: Path, tmp_path: Path, name: str
) -> None:
    asked: dict[str, Any] = {"cut": CUT, "options": ASKED, "with_text": True}
    whole = tmp_path / "whole"
    runs(copies, to=whole / name, spans=whole / "s.jsonl", **asked)
    for parts in range(1, 6):
        out = tmp_path / str(parts)
        cut_off(runs, copies, to=out / name, parts=parts, spans=out / "s.jsonl", **asked)
        if parts > 2:  # the first of many copies must be made again
            next((out / f"{name}.work").glob("part-000000.texts")).unlink()
        runs(copies, to=out / name, spans=out / "s.jsonl", **asked)
        for path in whole.rglob("*"):
            if path.is_file() and not path.name.endswith("manifest.json"):
                assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("number", range(3))
def test_an_engine_may_give_parts_in_any_order(runs: Runs, copies: Path, tmp_path: Path, number: int) -> None:
    orders = ([4, 3, 2, 1, 0], [2, 4, 0, 3, 1], [1, 0, 4, 2, 3])
    runs(copies, to=tmp_path / "whole.jsonl", cut=CUT)

    def engine(parts: Iterator[Part]) -> Generator[Scored]:
        scored = list(runs.engine(ScoreJob([], ""))(parts))
        yield from (scored[at] for at in orders[number])

    job = ScoreJob([str(copies)], str(tmp_path / "o.jsonl"), cut=CUT)
    run_score(job, runs.folder, engine, runs.view)
    assert (tmp_path / "o.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_is_rejected_once_is_rejected_wherever_it_stands(runs: Runs, tmp_path: Path) -> None:
    limits = runs.analyzer.config.limits.model_copy(update={"max_characters": 30})
    runs.analyzer = runs.analyzer.with_config(runs.analyzer.config.model_copy(update={"limits": limits}))
    rows = [{"text": text} for text in ("coal " * 9, "oil", "oil ", "coal " * 9 + "\n", "coal")]
    (tmp_path / "a.jsonl").write_bytes(jsonl(rows))
    outcome = runs(tmp_path / "a.jsonl", to=tmp_path / "o.jsonl", cut=Cut(rows=2))
    assert [(row["position"]["line"], row["id"]) for row in rejects(tmp_path / "o.jsonl")] == [
        (1, "0"),
        (4, "3"),
    ]
    assert {row["reason"] for row in rejects(tmp_path / "o.jsonl")} == {"too_long"}
    assert (outcome.counts.repeated, outcome.counts.rejected) == (2, 2)


def test_white_space_at_the_end_makes_no_other_text(runs: Runs, tmp_path: Path) -> None:
    text = "Oil in Russia.\r\nThe tanker said coal. 😀"
    same = [text, f"{text}\n", f"{text} \r\n\u2003\t"]
    others = [f"\n{text}", text.upper(), text.replace("\r", ""), text.replace(". ", ".  ")]
    rows = [{"text": given} for given in same + others]
    rows += [{"text": text, "title": "Coal"}, {"text": text, "title": ""}]
    (tmp_path / "a.jsonl").write_bytes(jsonl(rows))
    outcome = runs(tmp_path / "a.jsonl", to=tmp_path / "o.jsonl", options=ASKED, cut=Cut(rows=1))
    assert (runs.view.read, outcome.counts.repeated) == (6, 3)
    # What is merged is exactly what the engine says of each: offsets, evidence, scores.
    for row in read_rows(tmp_path / "o.jsonl"):
        given = rows[int(row["id"])]
        document = Document(given["text"], given.get("title"), row["id"])
        (alone,) = runs.analyzer.analyze([document], ASKED, alone=True)
        assert [(e["start"], e["end"], e["text"]) for e in row["entities"]] == [
            (e.start, e.end, e.text) for e in alone.entities or ()
        ]
        assert row["labels"] == [
            {
                "label": label.label,
                "axis": label.axis,
                "score": label.score,
                "evidence": [
                    {"start": e.start, "end": e.end, "score": e.score, "field": e.field}
                    for e in label.evidence or ()
                ],
            }
            for label in alone.labels or ()
        ]


def test_copies_are_known_on_the_way_to_stdout(
    runs: Runs, copies: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    outcome = runs(copies, to="-", rejects=tmp_path / "r.jsonl", cut=CUT)
    assert (runs.view.read, outcome.counts.repeated) == (12, 8)
    runs(copies, to=tmp_path / "o.jsonl", cut=CUT)
    assert capfdbinary.readouterr().out == (tmp_path / "o.jsonl").read_bytes()


def part(number: int, texts: list[str]) -> Part:
    items = [Item("a", {"line": i}, i, Document(text, id=i)) for i, text in enumerate(texts)]
    return Part(number, tuple(items), Place(), 0.0)


def analyze(given: list[Document]) -> list[Analysis]:
    return [Analysis(document.id, coverage=Coverage(1, 1)) for document in given]


def test_an_engine_that_gives_other_rows_than_it_got_is_found_out() -> None:
    repeats = Repeats(None)
    (scored,) = score_parts(repeats.firsts([part(0, ["oil", "coal"])]), analyze)
    with pytest.raises(ScoreError, match="not with as many rows"):
        list(repeats.whole([replace(scored, results=scored.results[:1])]))
    with pytest.raises(ScoreError, match="gave part 0 twice"):
        list(repeats.whole([scored, scored]))


def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    repeats = Repeats(tmp_path / "index.tmp")

    def read(first: int, last: int) -> int:
        parts = (part(number, [f"{number} {i}" for i in range(50)]) for number in range(first, last))
        for _ in repeats.whole(score_parts(repeats.firsts(parts), analyze)):
            pass
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = read(0, 20)
        assert read(20, 420) - before < 200_000  # of 20,000 texts
        # Python does not see SQLite's memory, of which there are 2 MB: the rest must be in the file.
        assert (tmp_path / "index.tmp").stat().st_size > 1_000_000
    finally:
        tracemalloc.stop()
    repeats.close()
    assert not list(tmp_path.iterdir())
