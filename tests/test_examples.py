"""Gold spans become tags; batches hold every token once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from serving.analyzer import Analyzer
from serving.tokens import SHAPES, Tokenizer, TokenStream
from training.corpus import AnnotatedDocument, Span
from training.examples import Batcher, Example, encode, gold_tags, in_one_case
from training.schema import Schema


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))


def tagged(tokenizer: Tokenizer, schema: Schema, document: AnnotatedDocument) -> tuple[list[str], list[Span]]:
    stream = tokenizer.encode([document.document()])[0]
    assert isinstance(stream, TokenStream)
    tagging = gold_tags(document, stream, schema)
    return [schema.tags[t] for t in tagging.tags], tagging.unreachable


def test_spans_of_title_and_text_become_tags(tokenizer: Tokenizer, schema: Schema) -> None:
    document = AnnotatedDocument(
        "d",
        "Security Council and oil",
        (Span(0, 16, "ORG"), Span(21, 24, "GOODS")),
        (),
        title="Russia",
        title_entities=(Span(0, 6, "LOCATION"),),
    )
    tags, unreachable = tagged(tokenizer, schema, document)
    assert tags == ["B-LOCATION", "B-ORG", "I-ORG", "O", "B-GOODS"]
    assert unreachable == []


def test_a_span_that_ends_inside_a_word_is_counted(tokenizer: Tokenizer, schema: Schema) -> None:
    document = AnnotatedDocument("d", "oilfirm and coal", (Span(0, 3, "GOODS"),), ())
    _, unreachable = tagged(tokenizer, schema, document)
    assert unreachable == [Span(0, 3, "GOODS")]


def test_types_a_corpus_leaves_out_stay_open(tokenizer: Tokenizer, schema: Schema, tiny: Analyzer) -> None:
    partial = AnnotatedDocument(
        "d", "oil in Russia", (Span(7, 13, "LOCATION"),), None, known_types=frozenset({"LOCATION"})
    )
    rows = encode([partial], tokenizer, schema).rows
    batcher = Batcher(tiny.config.special_tokens, tiny.config.window_shape(), len(schema.labels), 100)
    batch = batcher.batch([Example.from_row(rows[0])])
    allowed = {schema.tags[t] for t in np.flatnonzero(batch.allowed[0].numpy())}
    assert "O" in allowed
    assert {"B-GOODS", "I-ORG"} <= allowed
    assert not {"B-LOCATION", "I-LOCATION"} & allowed
    assert np.flatnonzero(batch.allowed[2].numpy()).tolist() == [schema.tags.index("B-LOCATION")]
    assert batch.labels_known.tolist() == [False]


def test_a_document_of_labels_alone_leaves_all_tags_open(
    tokenizer: Tokenizer, schema: Schema, tiny: Analyzer
) -> None:
    document = AnnotatedDocument("d", "oil in Russia", (), ("relief",), known_types=frozenset())
    batcher = Batcher(tiny.config.special_tokens, tiny.config.window_shape(), len(schema.labels), 100)
    batch = batcher.batch([Example.from_row(encode([document], tokenizer, schema).rows[0])])
    assert batch.allowed.all()
    assert batch.labels_known.tolist() == [True]
    assert batch.labels.sum() == 1


def test_a_type_that_is_not_vouched_for_stays_open(tokenizer: Tokenizer, schema: Schema) -> None:
    document = AnnotatedDocument("d", "oil", (Span(0, 3, "GOODS"),), None, known_types=frozenset({"ORG"}))
    assert tagged(tokenizer, schema, document) == (["O"], [])


def test_a_batch_holds_every_token_once(tokenizer: Tokenizer, schema: Schema, tiny: Analyzer) -> None:
    documents = [AnnotatedDocument(str(n), "oil and coal " * n, (), ("relief",)) for n in (1, 30, 7)]
    rows = encode(documents, tokenizer, schema).rows
    examples = [Example.from_row(row) for row in rows]
    batch = Batcher(tiny.config.special_tokens, tiny.config.window_shape(), len(schema.labels), 100).batch(
        examples
    )
    ids = batch.inputs[0][batch.owned]
    assert ids.tolist() == [i for e in examples for i in e.stream.ids]
    assert torch.bincount(batch.document_of).tolist() == [3, 90, 21]


def test_rows_keep_examples(tokenizer: Tokenizer, schema: Schema, corpus: list[AnnotatedDocument]) -> None:
    rows = encode(corpus, tokenizer, schema).rows
    again = Example.from_row(Example.from_row(rows[0]).to_row())
    assert again.stream.ids.tolist() == rows[0]["ids"]
    assert again.labels is not None
    assert again.labels.sum() == 2


def test_one_case_changes_shapes_and_nothing_else(
    tokenizer: Tokenizer, schema: Schema, corpus: list[AnnotatedDocument]
) -> None:
    rows = encode(corpus, tokenizer, schema).rows
    example = Example.from_row(rows[0])
    shown = in_one_case(example, "upper")
    assert (shown.stream.ids == example.stream.ids).all()
    at_first = shown.stream.type_ids[0] % len(SHAPES)
    assert SHAPES[at_first] == "initial"  # the article "a" in capitals
    assert set(shown.stream.type_ids[1:] % len(SHAPES)) == {SHAPES.index("upper")}
    assert (shown.stream.type_ids // len(SHAPES) == example.stream.type_ids // len(SHAPES)).all()
