"""The engine on any text: exact offsets, nothing lost, nothing raised, batch mates without effect."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tiny_model import WORDS
from serving.analyzer import Analyzer
from serving.results import Analysis, Document, Options

NASTY = [
    "👩‍👩‍👧",
    "e\u0301",
    "\r\n",
    "\t",
    "\u200b",
    "\u0000",
    "한국",
    "ﬁ",
    "\u202e",
    "İ",
    "ß",
    "--",
    "[SEP]",
    "\ufeff",
]
texts = st.lists(
    st.one_of(st.sampled_from([*WORDS, *map(str.title, WORDS), *NASTY]), st.text(max_size=6)),
    max_size=60,
).map(" ".join)


def check(document: Document, analysis: Analysis) -> None:
    if analysis.error:
        assert analysis.entities is analysis.labels is None
        return
    assert analysis.entities is not None
    for field in ("title", "text"):
        source = document.text if field == "text" else document.title or ""
        end = 0
        for entity in (e for e in analysis.entities if e.field == field):
            assert entity.start >= end
            end = entity.end
            assert source[entity.start : entity.end] == entity.text != ""
            assert 0 <= entity.score <= 1


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(texts, st.none() | texts), max_size=4))
def test_every_slice_is_its_text_and_spans_never_overlap(
    tiny: Analyzer, given_texts: list[tuple[str, str | None]]
) -> None:
    documents = [Document(text=text, title=title, id=i) for i, (text, title) in enumerate(given_texts)]
    analyses = tiny.analyze(documents, Options(evidence=True))
    assert [a.id for a in analyses] == [d.id for d in documents]
    for document, analysis in zip(documents, analyses, strict=True):
        check(document, analysis)


@settings(max_examples=60, deadline=None)
@given(texts, st.sampled_from(["NFC", "NFD"]))
def test_other_units_address_the_same_slices(tiny: Analyzer, text: str, form: str) -> None:
    document = Document(text=unicodedata.normalize(form, text))
    try:
        document.text.encode()
    except UnicodeEncodeError:
        return
    results = {
        unit: tiny.analyze([document], Options(offset_unit=unit))[0].entities or ()
        for unit in ("codepoint", "utf16", "utf8")
    }
    utf16, utf8 = document.text.encode("utf-16-le"), document.text.encode()
    for plain, wide, octets in zip(*results.values(), strict=True):
        assert utf16[2 * wide.start : 2 * wide.end].decode("utf-16-le") == plain.text == wide.text
        assert utf8[octets.start : octets.end].decode() == plain.text == octets.text


def test_a_document_reads_the_same_in_any_company(tiny: Analyzer) -> None:
    random = np.random.default_rng(0)
    documents = [
        Document(text=" ".join(random.choice(WORDS, random.integers(1, 300))).title(), id=i)
        for i in range(24)
    ]
    together = tiny.analyze(documents, Options(min_score=0.0))
    for document, company in zip(documents, together, strict=True):
        alone = tiny.analyze([document], Options(min_score=0.0))[0]
        assert alone.entities is not None
        assert company.entities is not None
        assert [(e.start, e.end, e.type) for e in alone.entities] == [
            (e.start, e.end, e.type) for e in company.entities
        ]
        ours, theirs = ({x.label: x.score for x in a.labels or ()} for a in (alone, company))
        assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "Vladivostok oil. " * 62_500, "\U0001f600" * 20_000, "e\u0301" * 5_000],
    ids=["one long word", "a megabyte", "emoji", "marks"],
)
def test_length_does_not_matter(tiny: Analyzer, text: str) -> None:
    document = Document(text=text)
    analysis = tiny.analyze([document], Options(evidence=True))[0]
    assert analysis.error is None
    assert analysis.coverage is not None
    assert not analysis.coverage.truncated
    check(document, analysis)


def test_coverage_counts_each_token_once(tiny: Analyzer) -> None:
    analysis = tiny.analyze([Document(text="oil " * 500)])[0]
    assert analysis.coverage is not None
    assert (analysis.coverage.tokens, analysis.coverage.windows > 10) == (500, True)


def test_a_bad_document_costs_no_other(tiny: Analyzer) -> None:
    too_long = "a" * (tiny.config.limits.max_characters + 1)
    results = tiny.analyze([Document(t) for t in ("oil", "", too_long, "b\ud800", "coal")])
    assert [r.error and r.error.code for r in results] == [None, "empty", "too_long", "lone_surrogate", None]


def test_min_score_only_filters(tiny: Analyzer) -> None:
    document = Document(text=" ".join(WORDS).title())
    everything = tiny.analyze([document], Options(min_score=0.0))[0].entities or ()
    middle = sorted(e.score for e in everything)[len(everything) // 2]
    some = tiny.analyze([document], Options(min_score=middle))[0].entities or ()
    assert some == tuple(e for e in everything if e.score >= middle)
    assert 0 < len(some) < len(everything)


def test_switched_off_parts_are_null(tiny: Analyzer) -> None:
    result = tiny.analyze([Document("oil")], Options(labels=False, entities=False))[0]
    assert (result.labels, result.entities, result.error) == (None, None, None)


def test_evidence_shares_point_at_sentences(tiny: Analyzer) -> None:
    text = "Oil and coal. Two workers said the bank! Listed on Monday?"
    found = tiny.analyze([Document(text)], Options(evidence=True, min_score=0.0))[0].labels or ()
    assert found
    for label in found:
        assert label.evidence
        assert {text[e.start : e.end] for e in label.evidence} <= {
            "Oil and coal.",
            "Two workers said the bank!",
            "Listed on Monday?",
        }
        assert sum(e.score for e in label.evidence) <= 1.002


def test_no_documents_give_no_results(tiny: Analyzer) -> None:
    assert tiny.analyze([]) == []
