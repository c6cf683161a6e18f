"""Changed documents keep exact spans, and a name changes wherever it stands."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import CorpusError
from training.augment import Augmenter, hard_wrap, plain_typography, replace_names
from training.config import TrainConfig
from training.corpus import AnnotatedDocument, Span
from training.edits import Edit, apply_edits
from training.gazetteer import Gazetteer, names_of_several, running_case
from training.markup import parse_markup, to_markup

GAZETTEER = Gazetteer(
    {
        "PERSON": {"x": ["Mehrdad Jalili"]},
        "VESSEL": {"x": ["Arya Star", "Negin"]},
        "ORG": {"x": ["Paya Trading FZE", "Acme"]},
    }
)


def document(marked: str) -> AnnotatedDocument:
    text, spans = parse_markup(marked)
    return AnnotatedDocument("d", text, spans, ("relief",))


@given(st.text("ab ", max_size=30), st.data())
def test_edits_move_spans_exactly(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = [Span(a, b, "X") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    # Whole spans, parts of spans, and stretches between them.
    edits = []
    for a, b in pairwise(cuts):
        start, end = sorted((data.draw(st.integers(a, b)), data.draw(st.integers(a, b))))
        if data.draw(st.booleans()) and start < end:
            edits.append(Edit(start, end, data.draw(st.text("xyz", max_size=4))))
    changed, moved = apply_edits(text, spans, edits)
    for before, after in zip(spans, moved, strict=True):
        inner = [e for e in edits if before.start <= e.start and e.end <= before.end]
        own = [replace(e, start=e.start - before.start, end=e.end - before.start) for e in inner]
        expected, _ = apply_edits(text[before.start : before.end], [], own)
        assert changed[after.start : after.end] == expected


@pytest.mark.parametrize("edits", [[Edit(0, 3, "")], [Edit(1, 2, "a"), Edit(1, 3, "b")]])
def test_edits_over_borders_or_each_other_are_refused(edits: list[Edit]) -> None:
    with pytest.raises(ValueError, match="over"):
        apply_edits("abcdef", [Span(2, 4, "X")], edits)


def test_a_name_changes_wherever_it_stands() -> None:
    given_document = document(
        "[[Kim Jong Un|PERSON]] saw the [[Wise Honest|VESSEL]]. [[KIM JONG UN|PERSON]],"
        " [[Un|PERSON]] left; [[OFAC|ORG]] and the [[Security Council|ORG]],"
        " [[Korea Coal Corp.|ORG]] ([[Korea|ORG]]) in [[Rajin|LOCATION]], the [[Ryomyong|VESSEL]]."
        " [[WISE HONEST|VESSEL]]!"
    )
    well_known = frozenset({"security council"})
    changed = replace_names(given_document, GAZETTEER, well_known, np.random.default_rng(0))
    assert to_markup(changed.text, changed.entities) == (
        "[[Mehrdad Jalili|PERSON]] saw the [[Arya Star|VESSEL]]. [[MEHRDAD JALILI|PERSON]],"
        " [[Jalili|PERSON]] left; [[OFAC|ORG]] and the [[Security Council|ORG]],"
        " [[Paya Trading FZE|ORG]] ([[Paya|ORG]]) in [[Rajin|LOCATION]], the [[Negin|VESSEL]]."
        " [[ARYA STAR|VESSEL]]!"
    )


def test_two_names_never_become_one_and_short_forms_of_kept_names_stay() -> None:
    gazetteer = Gazetteer({"PERSON": {"x": ["Li Na", "Kofi Annan", "Kim Yo"]}})
    given_document = document(
        "[[Kofi Annan|PERSON]] met [[Ali Bey|PERSON]], [[Bo Xi|PERSON]], [[Cy Twombly|PERSON]];"
        " [[Annan|PERSON]] left"
    )
    for seed in range(5):
        random = np.random.default_rng(seed)
        changed = replace_names(given_document, gazetteer, frozenset({"kofi annan"}), random)
        surfaces = [surface for _, surface in changed.mentions()]
        assert (surfaces[0], surfaces[4]) == ("Kofi Annan", "Annan")
        assert {"Li Na", "Kim Yo"} < set(surfaces[1:4])  # and the third keeps its own


def test_names_of_one_document_are_lent_to_others() -> None:
    documents = [
        document("[[OFAC|ORG]] named [[Kim Yo|PERSON]] and [[Rajin|LOCATION]]"),
        document("[[Ofac|ORG]] named [[Li Na|PERSON]] and [[Acme Ltd|ORG]]; [[KPA|ORG]]"),
    ]
    assert names_of_several(documents) == {"ofac"}
    assert Gazetteer.of(documents, {"PERSON", "ORG"}, {"ofac"}).groups == {
        "PERSON": {"0": ["Kim Yo"], "1": ["Li Na"]},
        "ORG": {"1": ["Acme Ltd"]},
    }


def test_typography_becomes_plain() -> None:
    changed = plain_typography(document("“[[Kim|PERSON]]’s – [[Lloyd’s|ORG]] … ship”"))
    assert to_markup(changed.text, changed.entities) == "\"[[Kim|PERSON]]'s - [[Lloyd's|ORG]] ... ship\""


def test_hard_wraps_may_fall_into_a_name() -> None:
    changed = hard_wrap(document("word " * 12 + "[[UN Security Council|ORG]] " + "word " * 12), 62)
    lines = changed.text.split("\n")
    assert len(lines) > 1
    assert all(len(line) < 80 for line in lines)
    span = changed.entities[0]
    assert changed.text[span.start : span.end].split() == ["UN", "Security", "Council"]
    assert "\n" in changed.text[span.start : span.end]


def test_chances_of_one_and_none() -> None:
    marked = document("“[[Kim Yo|PERSON]]” " + "word " * 20 + "[[OFAC|ORG]]")
    given_document = replace(marked, title="T")
    shares = {"names_share": 1.0, "typography_share": 1.0, "wrap_share": 1.0, "drop_title_share": 1.0}
    always, never = TrainConfig(**shares), TrainConfig(**dict.fromkeys(shares, 0.0))
    shown = [
        Augmenter(c, GAZETTEER, frozenset())(given_document, np.random.default_rng(1))
        for c in (always, never)
    ]
    assert shown[0].title is None
    assert shown[0].text.startswith('"Mehrdad Jalili" word')
    assert "\n" in shown[0].text
    assert shown[1] is given_document


def test_names_are_read_in_running_case(tmp_path: Path) -> None:
    assert running_case("JALILI, Mehrdad", "PERSON") == "Mehrdad Jalili"
    assert running_case("KIM, Jong Un", "PERSON", surname_first=True) == "Kim Jong Un"
    assert running_case("AL-ASSAD TRADING CO. LLC", "ORG") == "Al-Assad Trading CO. LLC"
    assert running_case("CARIBBEAN BANK N.V.", "ORG") == "Caribbean Bank N.V."
    path = tmp_path / "names.jsonl"
    path.write_text('{"name": "WISE HONEST", "type": "VESSEL", "programme": ["DPRK"]}\n' * 20)
    assert dict(Gazetteer.load(path).draw(np.random.default_rng(0))) == {"VESSEL": ["Wise Honest"] * 20}
    path.write_text('{"name": "WISE HONEST", "type": "VESSEL", "programme": ["DPRK"]}\n' * 3)
    with pytest.raises(CorpusError, match="expected at least one"):
        Gazetteer.load(path)
    path.write_text('{"name": "WISE HONEST"}\n')
    with pytest.raises(CorpusError, match="not a name"):
        Gazetteer.load(path)
