"""Conversions come back as they went, or say what they could not carry."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, Span
from training.formats import FORMATS, Losses

TYPES = ["PERSON", "ORG", "VESSEL"]
characters = st.characters(exclude_categories=["Cs"])
words = st.one_of(
    st.sampled_from(["👷", "e\u0301", "Kim", "Rajin-Sonbong", "\r\n", "…"]),
    st.text(characters, min_size=1, max_size=8),
)


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, tuple[Span, ...]]:
    text, spans = "", []
    for piece in draw(st.lists(words, max_size=12)):
        if draw(st.booleans()):
            spans.append(Span(len(text), len(text) + len(piece), draw(st.sampled_from(TYPES))))
        text += piece
        text += draw(st.sampled_from(["", " ", "\n\n"])) if not spans or spans[-1].end != len(text) else " "
    return text, tuple(spans)


@st.composite
def documents(draw: st.DrawFn) -> AnnotatedDocument:
    (text, entities), (title, title_entities) = draw(annotated()), draw(annotated())
    return AnnotatedDocument(
        id=draw(st.text(characters, min_size=1, max_size=5)),
        text=text,
        entities=entities,
        cats=draw(st.none() | st.just(("relief", "designation"))),
        title=title or None,
        title_entities=title_entities if title else (),
        published_at=draw(st.none() | st.just("2024-02-29")),
        genre=draw(st.sampled_from(["", "wire"])),
        source=draw(st.sampled_from(["", "us"])),
    )


def there_and_back(
    name: str, given_documents: list[AnnotatedDocument]
) -> tuple[list[AnnotatedDocument], Losses]:
    losses = Losses()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        FORMATS[name].write(given_documents, path, losses)
        return list(FORMATS[name].read(path, losses)), losses


@pytest.mark.parametrize("name", ["doccano", "prodigy", "label-studio", "hugging-face"])
@settings(max_examples=40, deadline=None)
@given(st.lists(documents(), min_size=1, max_size=3))
def test_nothing_is_lost_where_the_format_can_hold_it(name: str, corpus: list[AnnotatedDocument]) -> None:
    back, losses = there_and_back(name, corpus)
    assert back == corpus
    assert not losses.counts


@settings(max_examples=60, deadline=None)
@given(st.lists(documents(), max_size=3))
def test_conll_keeps_whole_word_spans_and_reports_the_rest(corpus: list[AnnotatedDocument]) -> None:
    plain = [d for d in corpus if any(c.isalnum() for c in d.text)]
    back, losses = there_and_back("conll", plain)
    assert len(back) == len(plain)
    for name in ("title", "cats", "genre"):
        assert losses.counts[name] == sum(bool(getattr(d, name)) for d in plain)
    for before, after in zip(plain, back, strict=True):
        assert "".join(after.text.split()) == "".join(before.text.split())
    kept = sum(len(d.entities) for d in back)
    wanted = sum(
        any(c.isalnum() or not c.isspace() for c in d.text[s.start : s.end])
        for d in plain
        for s in d.entities
    )
    shared = losses.counts["span that shares a token with another"]
    assert wanted - shared <= kept <= wanted + losses.counts["span over two sentences"]


@settings(max_examples=60, deadline=None)
@given(st.lists(documents(), max_size=3))
def test_docbin_keeps_all_but_spans_inside_a_token(corpus: list[AnnotatedDocument]) -> None:
    back, losses = there_and_back("spacy", corpus)
    assert [replace(d, entities=(), title_entities=()) for d in back] == [
        replace(d, entities=(), title_entities=()) for d in corpus
    ]
    changed = sum(
        len(set(getattr(before, field)) - set(getattr(after, field)))
        for before, after in zip(corpus, back, strict=True)
        for field in ("entities", "title_entities")
    )
    assert changed == losses.counts.total()


def test_docbin_is_what_spacy_trains_on(tmp_path: Path) -> None:
    document = AnnotatedDocument(
        "a",
        "OFAC said.",
        (Span(0, 4, "ORG"),),
        ("relief",),
        title="Kim",
        title_entities=(Span(0, 3, "PERSON"),),
    )
    other = AnnotatedDocument("b", "Oil rose.", (), ("not_sanctions",))
    FORMATS["spacy"].write([document, other], tmp_path / "train.spacy", Losses())
    docs = list(DocBin().from_disk(tmp_path / "train.spacy").get_docs(spacy.blank("en").vocab))
    assert docs[0].text == "Kim\n\nOFAC said."
    assert [(e.text, e.label_) for e in docs[0].ents] == [("Kim", "PERSON"), ("OFAC", "ORG")]
    assert docs[1].cats == {"not_sanctions": 1.0, "relief": 0.0}


def test_unknown_spans_stay_unknown_to_spacy() -> None:
    document = AnnotatedDocument("a", "OFAC said.", (), ("relief",), known_types=frozenset())
    back, _ = there_and_back("spacy", [document])
    assert back == [document]


def test_a_docbin_of_others_is_read(tmp_path: Path) -> None:
    doc = spacy.blank("en").make_doc("Kim left")
    doc.ents = [doc.char_span(0, 3, label="PERSON")]
    doc.cats = {"relief": 0.9, "designation": 0.0}
    bare = spacy.blank("en").make_doc("Oil")
    DocBin(store_user_data=True, docs=[doc, bare]).to_disk(tmp_path / "x.spacy")
    first, second = FORMATS["spacy"].read(tmp_path / "x.spacy", Losses())
    assert first == AnnotatedDocument("0", "Kim left", (Span(0, 3, "PERSON"),), ("relief",))
    assert second == AnnotatedDocument("1", "Oil", (), None, known_types=frozenset())


def test_conll_of_a_sentence() -> None:
    document = AnnotatedDocument(
        "0", "Kim Jong Un met OFAC.", (Span(0, 11, "PERSON"), Span(16, 20, "ORG")), None
    )
    back, losses = there_and_back("conll", [document])
    assert back[0].text == "Kim Jong Un met OFAC ."
    assert back[0].entities == document.entities
    assert losses.counts == {"spacing": 1}


def test_label_studio_counts_utf16() -> None:
    document = AnnotatedDocument("a", "👷👷 Kim", (Span(3, 6, "PERSON"),), None)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.json"
        FORMATS["label-studio"].write([document], path, Losses())
        value = orjson.loads(path.read_bytes())[0]["annotations"][0]["result"][0]["value"]
    assert (value["start"], value["end"], value["text"]) == (5, 8, "Kim")


def test_exports_of_the_tools_themselves_are_read(tmp_path: Path) -> None:
    doccano = tmp_path / "doccano.jsonl"
    doccano.write_bytes(
        b'{"id": 7, "text": "Kim left", "label": [[0, 3, "PERSON"]]}\n'
        b'{"id": 8, "text": "Kim left", "relations": [{"id": 1}], "cats": ["relief"],'
        b' "entities": [{"id": 1, "label": "PERSON", "start_offset": 0, "end_offset": 3}]}\n'
    )
    losses = Losses()
    first, second = FORMATS["doccano"].read(doccano, losses)
    assert first.entities == second.entities == (Span(0, 3, "PERSON"),)
    assert (first.cats, second.cats) == (None, ("relief",))
    assert losses.counts == {"relations": 1}

    prodigy = tmp_path / "prodigy.jsonl"
    prodigy.write_bytes(
        b'{"text": "Kim left", "spans": [{"start": 0, "end": 3, "label": "PERSON", "token_start": 0}],'
        b' "answer": "accept"}\n'
        b'{"text": "Kim left", "spans": [], "answer": "reject"}\n'
    )
    assert [d.entities for d in FORMATS["prodigy"].read(prodigy, losses)] == [(Span(0, 3, "PERSON"),)]
    assert losses.counts["task with answer 'reject'"] == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("doccano", b"{"),
        ("doccano", b"[]"),
        ("doccano", b'{"data": 1}'),
        ("doccano", b'{"text": "a", "label": [[1]]}'),
        ("prodigy", b'{"text": "a", "spans": [{"start": 1}]}'),
        ("label-studio", b"{}"),
        ("label-studio", b"[1]"),
        ("label-studio", b'[{"data": {}, "annotations": [{"result": []}]}]'),
        ("conll", b"Kim PERSON"),
        ("conll", b"\xff"),
        ("hugging-face", b"x"),
        ("spacy", b"x"),
    ],
)
def test_what_is_not_the_format_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match="file"):
        list(FORMATS[name].read(path, Losses()))


def test_document_without_labels_stays_without(tmp_path: Path) -> None:
    document = AnnotatedDocument("a", "Kim", (), None)
    for name in ("doccano", "prodigy", "label-studio", "hugging-face", "spacy"):
        assert there_and_back(name, [document])[0][0].cats is None
        assert there_and_back(name, [replace(document, cats=())])[0][0].cats == ()


@pytest.mark.parametrize(
    ("task", "entities", "known_types", "cats", "losses"),
    [
        (b'"accept": ["relief"]', (), frozenset(), ("relief",), {}),
        (b'"spans": []', (), None, None, {}),
        (b'"_view_id": "ner_manual"', (), None, None, {}),
        (b'"_view_id": "choice", "accept": []', (), frozenset(), (), {}),
        (b'"label": "relief"', (), frozenset(), None, {"label of a binary task": 1}),
    ],
)
def test_what_a_prodigy_task_does_not_ask_stays_unknown(
    tmp_path: Path, task: bytes, entities: object, known_types: object, cats: object, losses: object
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'{"text": "Kim left", "answer": "accept", ' + task + b"}")
    counted = Losses()
    (document,) = FORMATS["prodigy"].read(path, counted)
    assert (document.entities, document.known_types, document.cats) == (entities, known_types, cats)
    assert counted.counts == losses
