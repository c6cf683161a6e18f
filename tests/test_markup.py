"""Inline markup compiles to exact offsets, and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import CorpusError
from training.corpus import Span
from training.markup import parse_file, parse_markup, to_markup

plain = st.text(st.characters(exclude_characters="[]|", exclude_categories=["Cs"]), max_size=12)
surfaces = plain.filter(bool)


@given(st.lists(st.tuples(plain, surfaces)), plain)
def test_offsets_address_the_surface_and_markup_comes_back(
    mentions: list[tuple[str, str]], tail: str
) -> None:
    marked = "".join(f"{before}[[{surface}|ORG]]" for before, surface in mentions) + tail
    text, spans = parse_markup(marked)
    assert [text[s.start : s.end] for s in spans] == [surface for _, surface in mentions]
    assert to_markup(text, spans) == marked


@pytest.mark.parametrize("broken", ["[[Kim|PERSON", "Kim|PERSON]]", "[[a [[b|ORG]] c|ORG]]", "[[Kim]]"])
def test_broken_markup_is_refused(broken: str) -> None:
    with pytest.raises(CorpusError, match="outside a mention"):
        parse_markup(broken)


def test_a_file_becomes_a_document(tmp_path: Path) -> None:
    path = tmp_path / "x1.txt"
    path.write_text(
        '+++\ntitle = "[[Kim|PERSON]] rises"\npublished_at = "2020-01-02"\ngenre = "wire"\nsource = "s"\n'
        'cats = ["not_sanctions"]\n+++\nIn [[Minsk|LOCATION]].\n',
        encoding="utf-8",
    )
    document = parse_file(path)
    assert (document.id, document.title, document.text) == ("x1", "Kim rises", "In Minsk.")
    assert document.title_entities == (Span(0, 3, "PERSON"),)
    assert document.entities == (Span(3, 8, "LOCATION"),)


@pytest.mark.parametrize("content", ["no front matter", "+++\ntitle = 1\n+++\nx", "+++\n=\n+++\nx"])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"bad\.txt"):
        parse_file(path)
