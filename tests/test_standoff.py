"""Annotation and text come together again only if they are of each other."""

from pathlib import Path

import pytest

from serving.errors import CorpusError
from training.corpus import Span
from training.formats.jsonl import write_rows
from training.standoff import attach, stretch_hash

TEXT = "By Kim. OFAC lifted it. More."


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [
        {"id": "a", "title": "Eased", "text": TEXT, "source": "us", "date": "2020-01-02"},
        {"id": "b", "text": "x"},
    ]
    write_rows(tmp_path / "texts.jsonl", rows)
    return tmp_path / "texts.jsonl"


def row(**changes: object) -> dict[str, object]:
    digest = stretch_hash(TEXT[8:23])
    return {
        "id": "a", "start": 8, "end": 23, "sha256": digest, "entities": None, "cats": ["relief"], **changes
    }  # fmt: skip


def test_labels_meet_their_text(tmp_path: Path, texts: Path) -> None:
    write_rows(tmp_path / "labels.jsonl", [row(), row(entities=[[0, 4, "ORG"]], cats=None)])
    first, second = attach(tmp_path / "labels.jsonl", [texts])
    assert (first.text, first.cats, first.known_types) == ("OFAC lifted it.", ("relief",), frozenset())
    assert (first.source, first.published_at) == ("us", "2020-01-02")
    assert (second.entities, second.cats, second.known_types) == ((Span(0, 4, "ORG"),), None, None)


def test_two_stretches_of_a_document(tmp_path: Path, texts: Path) -> None:
    write_rows(tmp_path / "labels.jsonl", [row(title=True), row(id="a/2", document="a")])
    first, second = attach(tmp_path / "labels.jsonl", [texts])
    assert [(d.id, d.title, d.text) for d in (first, second)] == [
        ("a", "Eased", "OFAC lifted it."), ("a/2", None, "OFAC lifted it.")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "c"}, "no text has the id 'c'"),
        ({"end": 22}, "another version of the text"),
        ({"entities": [[0, 4]]}, "not an annotation"),
        ({"cats": "relief"}, "cats is a str"),
        ({"start": None}, "not an annotation"),
        ({"title": True, "entities": [[0, 4, "ORG"]]}, "none of the title"),
        ({"id": "b", "start": 0, "end": 1, "sha256": stretch_hash("x"), "title": True}, "has no title"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, texts: Path, changes: dict[str, object], message: str
) -> None:
    write_rows(tmp_path / "labels.jsonl", [row(**changes)])
    with pytest.raises(CorpusError, match=message):
        list(attach(tmp_path / "labels.jsonl", [texts]))
