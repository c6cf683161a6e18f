"""What `--format ftm` writes is sound to the FollowTheMoney library, keeps every span, and has stable ids."""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from followthemoney import model as ftm_model
from followthemoney import registry

from serving.errors import ScoreError
from serving.results import Analysis, Document, Entity, Evidence, Label, Options
from serving.score import countries, ftm
from serving.score.parts import Cut
from tests.conftest import ROOT
from tests.corpora import Runs, documents, jsonl, read_rows, rejects, write_corpus
from tests.test_score_formats import stopped

TEXT = "Kim 😀 Ok sailed the Ojo\r\nSel with coal for Sel Bank,\n\nsaid «…»"
ANALYSIS = Analysis(
    "a1",
    labels=(
        Label("maritime_evasion", "typology", 0.91, (Evidence(0, 20, 0.6, "text"),)),
        Label("enforcement", "event", 0.7),
    ),
    entities=(
        Entity("LOCATION", 0, 8, "Port Sel", 0.8, "title"),
        Entity("PERSON", 0, 8, "Kim 😀 Ok", 0.99, "text"),
        Entity("VESSEL", 20, 28, "Ojo\r\nSel", 0.87, "text"),
        Entity("GOODS", 34, 38, "coal", 0.66, "text"),
        Entity("ORG", 43, 51, "Sel Bank", 0.9, "text"),
        Entity("PERSON", 60, 63, "«…»", 0.1, "text"),
    ),
)


def sound(entities: Sequence[dict[str, Any]]) -> None:
    """The library takes them as they are: no property, value or key is lost or changed."""
    for entity in entities:
        proxy = ftm_model.get_proxy(entity, cleaned=False)
        proxy.schema.validate(entity)
        assert proxy.to_dict() == entity


def made(**changes: Any) -> list[dict[str, Any]]:
    asked: dict[str, Any] = {
        "document": Document(TEXT, "Port Sel waits", "a1"),
        "published_at": "2026-02-28T23:30:00-02:00",
        "analysis": ANALYSIS,
        "model_sha256": "feed",
        "with_text": True,
        "offset_unit": "codepoint",
    }
    return list(ftm.entities(**{**asked, **changes}))


def test_an_article_and_a_mention_for_each_name() -> None:
    article, *mentions = made()
    sound([article, *mentions])
    assert article["properties"] == {
        "title": ["Port Sel waits"],
        "bodyText": [TEXT],
        "publishedAt": ["2026-03-01T01:30:00"],
        "keywords": ["maritime_evasion", "enforcement"],
        "peopleMentioned": ["Kim 😀 Ok"],
        "companiesMentioned": ["Sel Bank"],
        "locationMentioned": ["Port Sel"],
        "namesMentioned": ["Kim 😀 Ok", "Ojo Sel", "Sel Bank"],
    }
    assert article["embargo_labels"] == ["maritime_evasion 0.91", "enforcement 0.7"]
    assert article["embargo_evidence"] == ["maritime_evasion text 0 20 0.6"]
    assert article["embargo_spans"] == ["GOODS text 34 38 0.66", "PERSON text 60 63 0.1"]
    named = [(m["properties"]["name"], m["properties"]["detectedSchema"]) for m in mentions]
    assert named == [
        (["Port Sel"], ["Address"]),
        (["Kim 😀 Ok"], ["Person"]),
        (["Ojo Sel"], ["Vessel"]),
        (["Sel Bank"], ["Organization"]),
    ]
    assert {m["properties"]["document"][0] for m in mentions} == {article["id"]}
    for mention in mentions:
        field = TEXT if mention["embargo_field"] == "text" else "Port Sel waits"
        assert field[mention["embargo_start"] : mention["embargo_end"]] == mention["embargo_text"]
        assert ftm_model.get(mention["properties"]["detectedSchema"][0]) is not None


def test_the_text_is_there_on_request_and_empty_things_are_not() -> None:
    bare = Analysis("a1", labels=(), entities=())
    (article,) = made(
        document=Document("coal"), published_at=None, analysis=bare, with_text=False, offset_unit="utf16"
    )
    sound([article])
    assert article["properties"] == {}
    assert "embargo_spans" not in article
    assert article["embargo_offset_unit"] == "utf16"


def test_ids_follow_from_document_place_and_type_alone() -> None:
    first = [entity["id"] for entity in made()]
    doubtful = tuple(replace(entity, score=0.5) for entity in ANALYSIS.entities or ())
    other = replace(ANALYSIS, entities=doubtful)
    assert [e["id"] for e in made(analysis=other, model_sha256="f00d", with_text=False)] == first
    assert len(set(first)) == len(first)
    assert not {e["id"] for e in made(analysis=replace(ANALYSIS, id="a2"))} & set(first)
    assert first[0] == "1793a5a4d26b822beb4418ec4c975d451dfa25b6"  # as other runs have written it


def test_countries_are_told_by_their_names_adjectives_and_peoples() -> None:
    surfaces = ("Iranian", "the U.S.", "NORTH\nKOREA", "Iran", "us", "Korean", "Port Sel")
    spans = tuple(
        Entity("NORP" if name == "Iranian" else "LOCATION", 10 * n, 10 * n + len(name), name, 0.9, "text")
        for n, name in enumerate(surfaces)
    )
    article, *mentions = made(analysis=Analysis("a1", labels=(), entities=spans))
    sound([article, *mentions])
    assert article["properties"]["detectedCountry"] == ["ir", "us", "kp"]
    assert {tuple(mention["properties"]["contextCountry"]) for mention in mentions} == {("ir", "us", "kp")}


def test_the_library_knows_every_country_under_the_same_code() -> None:
    table = tomllib.loads((ROOT / "serving/score/countries.toml").read_text(encoding="utf-8"))
    assert set(table) <= set(registry.country.names)
    for code, names in table.items():
        assert {countries.country_code(name) for name in names} == {code}
        if code != "ge":  # Georgia is a state of the US, too: only its people stand in the table
            assert registry.country.clean(names[0]) == code


def test_documents_of_one_id_meet_in_the_library() -> None:
    first, second = (ftm_model.get_proxy(made(model_sha256=sha)[0]) for sha in ("feed", "f00d"))
    assert first.merge(second).context["embargo_model_sha256"] == ["feed", "f00d"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024", "2024"),
        ("2024-02", "2024-02"),
        ("2024-02-29", "2024-02-29"),
        ("20240229", "2024-02-29"),
        ("2024-02-29 12:00", "2024-02-29T12:00:00"),
        ("2024-02-29T23:59:01.5Z", "2024-02-29T23:59:01"),
        ("0001-01-01T00:00:00+05:00", None),
        ("0204-02-29", None),
        ("2024-02-30", None),
        ("29 February 2024", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_are_those_of_the_library(given: str | None, expected: str | None) -> None:
    assert ftm.ftm_date(given) == expected
    article = made(published_at=given)[0]
    sound([article])
    assert article["properties"].get("notes", []) == (
        [f"published_at: {given}"] if given and not expected else []
    )


@pytest.mark.parametrize(
    ("name", "form"),
    [("o.ftm.jsonl", None), ("o.ftm.jsonl.gz", None), ("o.jsonl.zst", "ftm"), ("parts", "ftm")],
)
def test_a_run_writes_entities_in_the_order_of_its_rows(
    runs: Runs, tmp_path: Path, name: str, form: str | None
) -> None:
    corpus = tmp_path / "a.jsonl"
    corpus.write_bytes(jsonl([*documents(10), {"id": "bad"}, *documents(2)]))
    asked = {"options": Options(min_score=0.0), "cut": Cut(rows=4)}
    runs(corpus, to=tmp_path / "rows.jsonl", **asked)
    runs(corpus, to=tmp_path / name, form=form, spans=tmp_path / "spans.jsonl", **asked)
    written = tmp_path / name
    found = [
        entity
        for file in (sorted(written.iterdir()) if written.is_dir() else [written])
        for entity in read_rows(file)
    ]
    sound(found)
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [e["embargo_id"] for e in found if e["schema"] == "Article"] == [row["id"] for row in rows]
    count = sum(len(e.get("embargo_spans", [])) if e["schema"] == "Article" else 1 for e in found)
    assert count == len([span for row in rows for span in row["entities"]]) > 0
    assert len(read_rows(tmp_path / "spans.jsonl")) == count
    assert [reject["id"] for reject in rejects(written)] == ["bad"]


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(runs: Runs, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl.gz", documents(12))
    runs(corpus, to=tmp_path / "whole.ftm.jsonl", cut=Cut(rows=3))
    for stop_at in (1, 3):
        stopped(runs, corpus, tmp_path / "o.ftm.jsonl", stop_at)
    runs(corpus, to=tmp_path / "o.ftm.jsonl", cut=Cut(rows=3))
    assert (tmp_path / "o.ftm.jsonl").read_bytes() == (tmp_path / "whole.ftm.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("to", ["o.ftm.jsonl", "-"])
def test_the_dates_and_titles_of_a_corpus_come_along(
    runs: Runs, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], name: str, to: str
) -> None:
    corpus = write_corpus(tmp_path / name, documents(1))
    out, stdout = tmp_path / "o.ftm.jsonl", to == "-"
    runs(corpus, to=to if stdout else out, form="ftm", rejects=tmp_path / "r.jsonl")
    lines = capfdbinary.readouterr().out if stdout else out.read_bytes()
    article = orjson.loads(lines.splitlines()[0])
    assert article["properties"]["title"] == ["Tanker 0 listed"]
    assert article["properties"]["publishedAt"] == ["2026-01-01"]
    assert "bodyText" not in article["properties"]


def test_the_library_reads_the_stream_of_the_command(tiny_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.csv", documents(6))
    command = [sys.executable, "-c", "from training.cli import main; main()", "score", str(corpus), "-o", "-"]
    command += ["--format", "ftm", "--rejects", str(tmp_path / "r.jsonl"), "--model", str(tiny_folder)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    sound([orjson.loads(line) for line in done.stdout.splitlines()])
    assert done.stdout.count(b'"Article"') == 6


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"to": "o.parquet", "form": "ftm"}, "different formats"),
        ({"to": "o.ftm.jsonl", "form": "jsonl"}, "different formats"),
        ({"to": "o.jsonl", "spans": Path("s.ftm.jsonl")}, "a table of spans"),
    ],
)
def test_what_fits_no_entities_is_refused(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "a.jsonl", documents(1))
    with pytest.raises(ScoreError, match=message):
        runs("a.jsonl", **asked)
