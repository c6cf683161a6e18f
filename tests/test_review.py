"""What `embargo data pull-review` picks: doubtful and diverse documents, each story once, as scored."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from serving.errors import CorpusError
from serving.model_folder import ModelFolder
from serving.results import Document, Entity, Label, Options
from tests.corpora import Runs, documents, jsonl, write_corpus
from training.corpus import AnnotatedDocument
from training.doubt import doubt, standing
from training.duplicates import NearDuplicates
from training.review import annotated, pick, pull_review
from training.scored import ScoredDocument, read_scored

THRESHOLDS = {"relief": 0.4, "designation": 0.5}


def scored(
    text: str = "coal",
    labels: Sequence[tuple[str, float]] | None = (),
    spans: Sequence[float] = (),
    at: str = "2026-01-01",
    source: str = "a.jsonl",
) -> ScoredDocument:
    found = None if labels is None else tuple(Label(name, "event", score) for name, score in labels)
    entities = tuple(Entity("GOODS", 0, 4, "coal", score, "text") for score in spans)
    return ScoredDocument(Document(text, None, text), at, found, entities, "feed", source)


def story(topic: str, words: int = 60) -> str:
    return " ".join(f"{topic}{n}" for n in range(words))


@pytest.mark.parametrize(
    ("given", "spans", "labels"),
    [
        (scored(spans=[0.9, 0.7], labels=[("relief", 1.0)]), 0.2, 0.0),
        (scored(spans=[], labels=[("relief", 0.4)]), 0.0, 1.0),
        (scored(labels=[("relief", 0.2), ("designation", 0.9)]), 0.0, 0.5),
        (scored(labels=[("designation", 0.75)]), 0.0, 0.5),
        (scored(labels=[]), 0.0, 1.0),
        (scored(labels=None), 0.0, 0.0),
    ],
)
def test_doubt_is_what_the_scores_say(given: ScoredDocument, spans: float, labels: float) -> None:
    found = doubt(given, THRESHOLDS)
    assert (found.spans, found.labels) == (pytest.approx(spans), pytest.approx(labels))


def test_standing_is_a_rank_that_equals_share() -> None:
    assert standing([0.1, 0.9, 0.1, 0.5]).tolist() == [0.25, 0.875, 0.25, 0.625]
    assert standing([]).tolist() == []


def test_of_equal_doubt_unlike_documents_are_taken() -> None:
    given = [scored(story(topic) + f" {n} {n}a {n}b") for topic in ("tanker", "bank") for n in range(5)]
    first, second = pick(given, np.linspace(0.9, 0.89, len(given)), 2, NearDuplicates())
    assert first == 0
    assert second >= 5


def test_sources_and_months_are_spread() -> None:
    text = [story(f"w{n}x") for n in range(8)]
    given = [scored(text[n], at=f"2026-0{1 + n % 2}-15", source=f"{n // 4}.jsonl") for n in range(8)]
    taken = [given[at] for at in pick(given, np.full(8, 0.5), 4, NearDuplicates())]
    assert len({(one.source, (one.published_at or "")[:7]) for one in taken}) == 4


def test_a_doubtful_document_comes_before_a_sure_one() -> None:
    given = [scored(story(f"w{n}x")) for n in range(6)]
    assert pick(given, np.array([0.1, 0.2, 0.9, 0.3, 0.8, 0.1]), 2, NearDuplicates()) == [2, 4]


def test_no_story_twice_and_no_known_one() -> None:
    given = [scored(story("w")), scored(story("w") + " again"), scored(story("x")), scored(story("y"))]
    seen = NearDuplicates()
    seen.add(story("x") + " as known")
    assert sorted(pick(given, np.full(4, 0.5), 4, seen)) == [0, 3]


def test_what_is_taken_already_stays_and_keeps_its_likes_away() -> None:
    like = " ".join(reversed(story("tanker").split()))  # its words, none of its sequences
    given = [scored(text) for text in (story("tanker"), like, story("bank"))]
    assert pick(given, np.full(3, 0.5), 2, NearDuplicates(), taken=1) == [0, 2]
    assert pick(given, np.full(3, 0.5), 1, NearDuplicates(), taken=1) == [0]


@pytest.mark.parametrize(
    ("is_copy", "reads"),
    [(False, 2), (True, 4)],  # copies are known when they are looked at: 10, then 20, then the rest
)
def test_known_documents_take_no_candidates_place(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_copy: bool, reads: int
) -> None:
    """Thirty known ones are more doubtful than all others, three times as many as there are candidates."""
    known = [story(f"k{n}x") + (" as it was published" if is_copy else "") for n in range(30)]
    texts = [story(f"k{n}x") for n in range(30)] + [story(f"o{n}x") for n in range(3)]
    corpus = write_corpus(
        tmp_path / "a.jsonl", [{"id": f"d{n}", "text": text} for n, text in enumerate(texts)]
    )
    runs(corpus, to=tmp_path / "o.jsonl", with_text=True, options=Options(min_score=0.0))
    rows = [orjson.loads(line) for line in (tmp_path / "o.jsonl").read_bytes().splitlines()]
    for number, row in enumerate(rows):
        row["labels"] = [{**row["labels"][0], "score": 1.0}] if number >= 30 else []  # none: doubtful
        row["entities"] = []
    (tmp_path / "o.jsonl").write_bytes(jsonl(rows))
    without = [AnnotatedDocument(f"k{n}", text, (), ()) for n, text in enumerate(known)]
    read: list[Path] = []
    monkeypatch.setattr("training.review.read_scored", lambda path: read.append(path) or read_scored(path))
    suggestions = pull_review([tmp_path / "o.jsonl"], 1, runs.folder, without)
    assert len(read) == reads
    assert [one.document.text in texts[30:] for one in suggestions] == [True]
    every = pull_review([tmp_path / "o.jsonl"], 40, runs.folder, without)
    assert {one.document.text for one in every} == set(texts[30:])


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.jsonl.zst", "o.parquet", "parts"])
def test_any_scored_corpus_is_read(runs: Runs, tmp_path: Path, name: str) -> None:
    rows = [{**row, "text": f"{row['text']}\r\n👷 {story(row['id'])}"} for row in documents(9)]
    corpus = write_corpus(tmp_path / "a.jsonl", rows)
    asked: dict[str, Any] = {"with_text": True, "options": Options(min_score=0.0)}
    runs(corpus, to=tmp_path / name, **asked)
    read = list(read_scored(tmp_path / name))
    assert [(d.document.id, d.document.text, d.document.title, d.published_at) for d in read] == [
        (row["id"], row["text"], row["title"], row["published_at"]) for row in rows
    ]
    expected = runs.analyzer.analyze([d.document for d in read], asked["options"])
    assert [[e.text for e in d.entities] for d in read] == [
        [e.text for e in analysis.entities or ()] for analysis in expected
    ]
    suggestions = pull_review([tmp_path / name], 4, runs.folder)
    assert len({one.document.id for one in suggestions}) == 4
    assert suggestions[0].doubt == max(one.doubt for one in suggestions)
    assert [one.document.id for one in pull_review([tmp_path / name], 4, runs.folder)] == [
        one.document.id for one in suggestions
    ]


def test_the_annotation_has_the_models_own_labels_whatever_the_run_asked_for(
    runs: Runs, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", documents(8))
    runs(corpus, to=tmp_path / "low.jsonl", with_text=True, options=Options(min_score=0.0))
    plain = runs.analyzer.analyze([d.document for d in read_scored(tmp_path / "low.jsonl")])
    for one, analysis in zip(read_scored(tmp_path / "low.jsonl"), plain, strict=True):
        made = annotated(one, runs.folder.config.label_set())
        assert made.cats == tuple(label.label for label in analysis.labels or ())
        assert len(made.entities) + len(made.title_entities) == len(analysis.entities or ())


def test_copies_of_a_text_take_no_candidates_place(runs: Runs, tmp_path: Path) -> None:
    copy = {"text": "The tanker Ojo with oil in Russia."}
    corpus = write_corpus(tmp_path / "a.jsonl", [copy] * 40 + [{"text": story("other")}])
    runs(corpus, to=tmp_path / "o.jsonl", with_text=True)
    assert len(pull_review([tmp_path / "o.jsonl"], 2, runs.folder)) == 2


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("o.jsonl", {}, "score the corpus with --with-text"),
        ("o.parquet", {}, "score the corpus with --with-text"),
        (
            "o.jsonl",
            {"with_text": True, "options": Options(min_score=0.0, offset_unit="utf16")},
            "--offset-unit codepoint",
        ),
    ],
)
def test_a_run_that_lacks_something_says_how_to_score_again(
    runs: Runs, tmp_path: Path, name: str, asked: dict[str, Any], message: str
) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", [{"text": "👷 in Vladivostok, with the tanker Ojo and coal"}])
    runs(corpus, to=tmp_path / name, **asked)
    with pytest.raises(CorpusError, match=message):
        pull_review([tmp_path / name], 1, runs.folder)


def test_rows_of_another_model_are_refused(runs: Runs, tmp_path: Path) -> None:
    runs(write_corpus(tmp_path / "a.jsonl", documents(1)), to=tmp_path / "o.jsonl", with_text=True)
    other = ModelFolder(runs.folder.path, runs.folder.config, "f00d")
    with pytest.raises(CorpusError, match="name the model that scored it by --model"):
        pull_review([tmp_path / "o.jsonl"], 1, other)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("o.csv", b"", "no scored corpus by its name"),
        ("o.jsonl", b"{", "broken JSON"),
        ("o.jsonl", b"[]", "got list"),
        ("o.jsonl.gz", b"no gzip", "cannot be read"),
        ("o.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], "cannot be read"),
        ("o.jsonl.zst", b"no zstd", "cannot be read"),
        ("o.parquet", b"no parquet", "no Parquet file"),
    ],
)
def test_what_is_no_scored_corpus_is_refused(
    runs: Runs, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        pull_review([tmp_path / name], 1, runs.folder)
