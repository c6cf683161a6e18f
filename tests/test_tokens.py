"""Tokens keep exact offsets, case and layout, whatever characters a text holds."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from serving.errors import DocumentError
from serving.results import Document
from serving.tokens import GAPS, SHAPES, Tokenizer, TokenStream


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))


def encode(tokenizer: Tokenizer, text: str, title: str | None = None) -> TokenStream:
    stream = tokenizer.encode([Document(text=text, title=title)])[0]
    assert isinstance(stream, TokenStream)
    return stream


def shapes(stream: TokenStream) -> list[str]:
    return [SHAPES[i % len(SHAPES)] for i in stream.type_ids]


def gaps(stream: TokenStream) -> list[str]:
    return [GAPS[i // len(SHAPES)] for i in stream.type_ids]


def test_case_of_the_word_reaches_all_its_pieces(tokenizer: Tokenizer) -> None:
    stream = encode(tokenizer, "oil Zzyx OIL A eBay 2397 石")
    surface = ["oil Zzyx OIL A eBay 2397 石"[s:e] for s, e in zip(stream.starts, stream.ends, strict=True)]
    by_piece = dict(zip(surface, shapes(stream), strict=True))
    assert by_piece["oil"] == "lower"
    assert by_piece["Z"] == by_piece["x"] == "title"
    assert by_piece["OIL"] == "upper"
    assert by_piece["A"] == "initial"
    assert by_piece["2397"] == "digits"
    assert by_piece["石"] == "caseless"


def test_gaps_tell_glued_space_and_newline(tokenizer: Tokenizer) -> None:
    assert gaps(encode(tokenizer, "oil, coal\r\n\tbank")) == ["newline", "glued", "space", "newline"]


def test_a_title_stands_before_the_text_as_a_headline_does(tokenizer: Tokenizer) -> None:
    split = encode(tokenizer, "Coal and bank.", title="Oil said")
    joined = encode(tokenizer, "Oil said\n\nCoal and bank.")
    assert (split.ids == joined.ids).all()
    assert (split.type_ids == joined.type_ids).all()
    assert split.fields.tolist() == [0, 0, 1, 1, 1, 1]
    assert split.starts[2] == 0


def test_a_span_takes_the_combining_marks_behind_it(tokenizer: Tokenizer) -> None:
    text = unicodedata.normalize("NFD", "é oil")
    stream = encode(tokenizer, text)
    assert text[stream.starts[0] : stream.ends[0]] == "e\u0301"


def test_special_tokens_in_a_text_are_text(tokenizer: Tokenizer) -> None:
    stream = encode(tokenizer, "oil [SEP] coal")
    special = encode(tokenizer, "oil coal").ids
    assert len(stream) > 4
    assert not {2, 3} & set(stream.ids.tolist())
    assert special.tolist() == [stream.ids[0], stream.ids[-1]]


def test_a_lost_space_lets_a_word_be_split_at_the_capital(tokenizer: Tokenizer) -> None:
    stream = encode(tokenizer, "toKxq")
    letters = ["toKxq"[s:e] for s, e in zip(stream.starts, stream.ends, strict=True)]
    assert not stream.continues[letters.index("K")]
    assert stream.continues[letters.index("x")]


@pytest.mark.parametrize(
    ("text", "code"), [("", "empty"), (" \n\t", "empty"), ("\u200b", "empty"), ("a\ud800", "lone_surrogate")]
)
def test_what_cannot_be_read_is_an_error_of_its_own(tokenizer: Tokenizer, text: str, code: str) -> None:
    bad, good = tokenizer.encode([Document(text=text), Document(text="oil")])
    assert isinstance(bad, DocumentError)
    assert bad.code == code
    assert isinstance(good, TokenStream)


@pytest.mark.parametrize("text", ["\u200b", "\x00", "\ufffd", "\u0301", "  "])
def test_a_title_makes_no_text_of_nothing(tokenizer: Tokenizer, text: str) -> None:
    (bad,) = tokenizer.encode([Document(text=text, title="Oil said")])
    assert isinstance(bad, DocumentError)
    assert bad.code == "empty"


def test_offsets_never_go_back(tokenizer: Tokenizer) -> None:
    stream = encode(tokenizer, "정성화 ﬁrm 👩‍👩‍👧 \u0000 oil\u0301\u0302, \u202ecoal")
    assert (np.diff(stream.starts) >= 0).all()
    assert (stream.ends >= stream.starts).all()
