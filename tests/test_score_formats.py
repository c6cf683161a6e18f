"""Every format in gives the same results, every format out holds them."""

from pathlib import Path

import pytest

from serving.errors import ScoreError
from serving.results import Document, Options
from serving.score.parts import Cut
from serving.score.reading import Fields
from serving.score.schema import rows_schema, spans_schema
from serving.score.sources import find_sources
from tests.corpora import Runs, documents, jsonl, read_rows, rejects, write_corpus

ASKED = Options(min_score=0.0)
FORMATS = (
    "a.jsonl a.ndjson a.jsonl.gz a.jsonl.zst a.csv a.csv.gz a.tsv a.tsv.zst a.parquet".split()  # noqa: SIM905
)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_gives_the_engines_results(runs: Runs, tmp_path: Path, name: str) -> None:
    rows = documents(20)
    corpus = write_corpus(tmp_path / name, rows)
    outcome = runs(corpus, to=tmp_path / "out.jsonl", options=ASKED, cut=Cut(rows=8))
    assert (outcome.counts.read, outcome.counts.written, outcome.counts.rejected) == (20, 20, 0)
    expected = runs.analyzer.analyze([Document(r["text"], r["title"], r["id"]) for r in rows], ASKED)
    written = read_rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in written] == [row["id"] for row in rows]
    for row, analysis in zip(written, expected, strict=True):
        assert row["model_sha256"] == runs.folder.sha256
        assert row["error"] is None
        assert analysis.entities
        found = [(e["start"], e["end"], e["text"], e["field"]) for e in row["entities"]]
        assert found == [(e.start, e.end, e.text, e.field) for e in analysis.entities]
    assert runs.view.total == corpus.stat().st_size
    assert runs.view.reached[-1] == runs.view.total


@pytest.mark.parametrize("name", FORMATS)
def test_a_place_in_any_format_is_found_again(runs: Runs, tmp_path: Path, name: str) -> None:
    corpus = write_corpus(tmp_path / name, documents(20))
    runs(corpus, to=tmp_path / "whole.jsonl", cut=Cut(rows=3))
    out = tmp_path / "out.jsonl"
    for stop_at in (1, 3, 4):
        stopped(runs, corpus, out, stop_at)
    runs(corpus, to=out, cut=Cut(rows=3))
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def stopped(runs: Runs, corpus: Path, out: Path, part: int) -> None:
    """A run that the engine leaves before it has scored this part."""
    analyze = runs.analyzer.analyze

    def failing(given: list[Document], *rest: object, **options: object) -> object:
        if any(document.id == f"d{part * 3}" for document in given):
            raise RuntimeError("out of order")
        return analyze(given, *rest, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.analyzer, "analyze", failing)
        with pytest.raises(RuntimeError, match="out of order"):
            runs(corpus, to=out, cut=Cut(rows=3))
    assert len(list(Path(f"{out}.work").glob("part-*.rejects.jsonl"))) == part


def test_a_folder_of_texts_is_read_in_order_of_names(runs: Runs, tmp_path: Path) -> None:
    rows = documents(12)
    folder = write_corpus(tmp_path / "notes", rows)
    (folder / "readme.md").write_text("not a text", encoding="utf-8")
    single = tmp_path / "one.txt"
    single.write_text("coal", encoding="utf-8")
    runs(folder, single, to=tmp_path / "out.jsonl", with_text=True)
    written = {row["id"]: row["text"] for row in read_rows(tmp_path / "out.jsonl")}
    assert list(written) == [*sorted(f"{r['id'][-1]}/{r['id']}.txt" for r in rows), str(single)]
    assert written["5/d5.txt"] == rows[5]["text"]


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.jsonl.zst", "o.parquet"])
def test_every_format_out_holds_the_same(runs: Runs, tmp_path: Path, name: str) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(20))
    options = Options(min_score=0.0, evidence=True)
    asked = {"options": options, "cut": Cut(rows=6), "with_text": True}
    runs(corpus, to=tmp_path / "expected.jsonl", **asked)
    spans = tmp_path / "tables" / f"spans{Path(name).suffix}"
    if name.endswith((".gz", ".zst")):
        spans = tmp_path / "spans.jsonl"
    runs(corpus, to=tmp_path / name, spans=spans, **asked)
    expected = read_rows(tmp_path / "expected.jsonl")
    assert read_rows(tmp_path / name) == expected
    assert any(label["evidence"] for row in expected for label in row["labels"])
    flat = [{"id": row["id"], **entity} for row in expected for entity in row["entities"]]
    assert read_rows(spans) == flat
    assert rejects(tmp_path / name) == []


def test_parquet_has_the_documented_columns_whatever_was_asked(runs: Runs, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    corpus = tmp_path / "a.jsonl"
    corpus.write_bytes(jsonl([{"id": 7, "text": "oil in Russia"}, {"text": ""}, {"text": "coal"}]))
    runs(corpus, to=tmp_path / "o.parquet", spans=tmp_path / "s.parquet")
    (tmp_path / "empty.jsonl").touch()
    runs(tmp_path / "empty.jsonl", to=tmp_path / "e.parquet", spans=tmp_path / "t.parquet")
    for rows, spans in (("o.parquet", "s.parquet"), ("e.parquet", "t.parquet")):
        assert pq.read_schema(tmp_path / rows).equals(rows_schema())
        assert pq.read_schema(tmp_path / spans).equals(spans_schema())
    assert [row["id"] for row in read_rows(tmp_path / "o.parquet")] == ["7", "2"]
    assert read_rows(tmp_path / "e.parquet") == []


def test_a_name_without_suffix_is_a_folder_of_parts(runs: Runs, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(10))
    runs(corpus, to=tmp_path / "parts", cut=Cut(rows=4), form="jsonl.gz")
    runs(corpus, to=tmp_path / "one.jsonl", cut=Cut(rows=4))
    parts = sorted((tmp_path / "parts").iterdir())
    assert [part.name for part in parts] == [f"part-00000{n}.jsonl.gz" for n in range(3)]
    assert [row for part in parts for row in read_rows(part)] == read_rows(tmp_path / "one.jsonl")
    assert not (tmp_path / "parts.work").exists()


def test_rows_are_http_results_and_hold_more_on_request(runs: Runs, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(1))
    plain = ["id", "labels", "entities", "coverage", "error", "model_sha256"]
    for name, asked, more in (
        ("p.jsonl", {}, []),
        ("d.jsonl", {"with_date": True}, ["published_at"]),
        ("t.jsonl", {"with_text": True}, ["title", "text", "published_at"]),
    ):
        runs(corpus, to=tmp_path / name, **asked)
        (row,) = read_rows(tmp_path / name)
        assert list(row) == plain + more


def test_fields_go_by_other_names(runs: Runs, tmp_path: Path) -> None:
    corpus = tmp_path / "a.jsonl"
    corpus.write_bytes(jsonl([{"no": 3, "body": "oil", "head": "Coal", "when": 1767225600, "text": "x"}]))
    fields = Fields(text="body", id="no", title="head", date="when")
    runs(corpus, to=tmp_path / "o.jsonl", fields=fields, with_text=True)
    (row,) = read_rows(tmp_path / "o.jsonl")
    assert [row[k] for k in ("id", "title", "text", "published_at")] == [3, "Coal", "oil", "1767225600"]


def test_a_row_without_an_id_gets_its_number_in_the_run(runs: Runs, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(jsonl([{"text": "oil"}, {"text": " "}, {"text": "coal", "id": "c"}]))
    runs(tmp_path / "*.jsonl", to=tmp_path / "out" / "o.jsonl")
    assert [row["id"] for row in read_rows(tmp_path / "out" / "o.jsonl")] == ["0", "c", "3", "c"]


def test_patterns_leave_out_what_the_run_writes(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "o.jsonl"):
        (tmp_path / name).touch()
    found = find_sources([str(tmp_path / "*.jsonl")], outputs=[tmp_path / "o.jsonl"])
    assert [source.path.name for source in found] == ["a.jsonl", "b.jsonl"]
    for folder in ("o.jsonl.work", "parts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part-000000.jsonl").touch()
    outputs = [tmp_path / name for name in ("o.jsonl", "o.jsonl.work", "parts")]
    found = find_sources([str(tmp_path / "**" / "*.jsonl")], outputs=outputs)
    assert [source.path.name for source in found] == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["none-*.jsonl"], "no file matches"),
        (["a.jsonl", "./a.jsonl"], "named twice"),
        (["o.jsonl"], "an input and an output"),
        (["a.docx"], "--input-format"),
        (["empty"], "holds no .txt file"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScoreError, match=message):
        find_sources(given, outputs=[Path("o.jsonl")])


def test_a_missing_library_is_named_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.score.extra.find_spec", lambda name: None)
    for name, library in (("a.parquet", "pyarrow"), ("a.jsonl.zst", "zstandard")):
        with pytest.raises(ScoreError, match=rf"{library}.*\[corpora\]"):
            find_sources([name])
    assert find_sources(["a.jsonl.gz"])


def test_repeated_texts_are_scored_once(runs: Runs, tmp_path: Path) -> None:
    rows = documents(4)
    copies = [{**row, "id": f"copy of {row['id']}"} for row in rows]
    corpus = write_corpus(tmp_path / "a.jsonl", [*rows, *copies, {**rows[0], "title": "Other"}])
    outcome = runs(corpus, to=tmp_path / "o.jsonl")
    assert outcome.counts.repeated == 4
    assert runs.view.read == 5
    written = read_rows(tmp_path / "o.jsonl")
    for first, copy in zip(written[:4], written[4:8], strict=True):
        assert copy == {**first, "id": f"copy of {first['id']}"}
