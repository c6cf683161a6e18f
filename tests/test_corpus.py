"""What a corpus must keep, and that the shipped one keeps it."""

from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import CorpusError
from tests.conftest import ROOT
from training.build import build, find_problems
from training.corpus import SPLITS, AnnotatedDocument, Span, read_corpus, write_corpus
from training.headlines import split_headline
from training.schema import Schema
from training.statistics import shared_sentences
from training.validate import near_duplicates, problems

OWN = ROOT / "datasets" / "sanctions-news"
GOOD = AnnotatedDocument("d", "Kim met Li in Minsk.", (Span(0, 3, "PERSON"),), ("not_sanctions",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entities": (Span(0, 99, "PERSON"),)}, "leave the text"),
        ({"entities": (Span(3, 3, "PERSON"),)}, "leave the text"),
        ({"entities": (Span(0, 4, "PERSON"),)}, "not trimmed"),
        ({"text": "Kim saw Kim's", "entities": (Span(0, 3, "PERSON"), Span(8, 13, "PERSON"))}, "possessive"),
        ({"entities": (Span(14, 20, "PERSON"), Span(15, 19, "ORG"))}, "overlaps"),
        ({"entities": (Span(0, 3, "HUMAN"),)}, "unknown type"),
        ({"cats": ("nonsense",)}, "unknown label"),
        ({"cats": ("not_sanctions", "relief")}, "stands alone"),
        ({"cats": ("commodity_trade",)}, "needs an event label"),
        ({"cats": ("relief", "relief")}, "repeated"),
        ({"text": " ", "entities": ()}, "empty"),
        ({"title": "A", "title_entities": (Span(0, 2, "ORG"),)}, "leave the title"),
    ],
)
def test_each_broken_rule_is_found(schema: Schema, change: dict[str, object], message: str) -> None:
    found = problems(replace(GOOD, **change), schema)  # type: ignore[arg-type]
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("surface", "sound"),
    [
        ("ООО «Талтан-ДВ»", True),
        ("«Rosa» LLC", True),
        ("Acme Inc.", True),
        ("Juan “El Chapo” Guzman", True),
        ("Juan “El Chapo”", True),
        ("'Abd al-Aziz", True),
        ("“Kim”", False),
        ("Kim”", False),
        ("(Kim)", False),
        ("Kim,", False),
        (" Kim", False),
    ],
)
def test_punctuation_of_a_name_stays_and_outer_punctuation_goes(
    schema: Schema, surface: str, sound: bool
) -> None:
    document = replace(GOOD, text=surface, entities=(Span(0, len(surface), "ORG"),))
    assert (problems(document, schema) == []) is sound


def test_a_sound_document_has_no_problems(schema: Schema) -> None:
    assert problems(GOOD, schema) == []


def test_near_duplicates_are_found() -> None:
    text = " ".join(f"word{i}" for i in range(200))
    copies = [replace(GOOD, id="a", text=text), replace(GOOD, id="b", text=f"{text} and a bit more")]
    other = replace(GOOD, id="c", text=" ".join(f"term{i}" for i in range(200)))
    assert near_duplicates([*copies, other]) == [(0, 1)]


def test_the_shipped_corpus_is_sound_and_what_its_sources_compile_to(schema: Schema, tmp_path: Path) -> None:
    (tmp_path / "documents").symlink_to(OWN / "documents")
    splits = build(tmp_path, schema)
    assert sum(split.documents for split in splits.values()) >= 900
    for split in splits:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (OWN / f"{split}.jsonl").read_bytes()


def test_no_two_documents_of_the_shipped_corpus_share_a_sentence() -> None:
    documents = [d for split in SPLITS for d in read_corpus(OWN / f"{split}.jsonl")]
    credits = {
        "office of the press secretary",
        "ottawa ontario global affairs canada",
        "department of foreign affairs and trade",
        "bureau of industry and security",
        "office of financial sanctions implementation",
        "office of foreign assets control",
    }
    assert set(shared_sentences(documents)) <= credits


def test_repeated_ids_are_refused(schema: Schema) -> None:
    assert any("more than once" in p for p in find_problems([[GOOD], [GOOD]], schema))


def test_a_corpus_file_comes_back_as_written(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c.jsonl", [GOOD])
    assert list(read_corpus(tmp_path / "c.jsonl")) == [GOOD]


def test_unknown_spans_come_back_as_unknown(tmp_path: Path) -> None:
    document = replace(GOOD, entities=(), known_types=frozenset())
    write_corpus(tmp_path / "c.jsonl", [document])
    assert b'"entities":null' in (tmp_path / "c.jsonl").read_bytes()
    assert list(read_corpus(tmp_path / "c.jsonl")) == [document]
    assert list(read_corpus(tmp_path / "c.jsonl", frozenset({"ORG"}))) == [document]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": "a"}',
        '{"id": 1, "text": "x", "entities": [[1]]}',
        '{"id": "a", "text": null, "entities": []}',
        '{"id": "a", "text": "x", "entities": [], "title": 7, "title_entities": [[0, 1, "ORG"]]}',
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(CorpusError, match=r"c\.jsonl:2"):
        list(read_corpus(tmp_path / "c.jsonl"))


def test_a_headline_moves_to_the_title_with_its_spans() -> None:
    joined = AnnotatedDocument(
        "d", "Kim met Li\n\nIn Minsk.", (Span(0, 3, "PERSON"), Span(15, 20, "LOCATION")), ("not_sanctions",)
    )
    split = split_headline(joined)
    assert (split.title, split.text) == ("Kim met Li", "In Minsk.")
    assert (split.title_entities, split.entities) == ((Span(0, 3, "PERSON"),), (Span(3, 8, "LOCATION"),))
    for text in ("Kim met Li in Minsk.", "Kim met Li\n\n", "\n\nKim met Li", "Kim met Li\n\n  \n"):
        whole = replace(GOOD, text=text, entities=())
        assert split_headline(whole) is whole
