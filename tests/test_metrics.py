"""Our counts are those of the reference scorer and of nervaluate."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from serving.analyzer import Analyzer
from tests.conftest import SHARED
from training.corpus import AnnotatedDocument, Span, read_corpus
from training.evaluate import evaluate, read
from training.metrics import bootstrap, bootstrap_lead, score
from training.report import cross_check
from training.schema import Schema


def test_counts_by_hand() -> None:
    gold = [{(0, 3, "A"), (5, 6, "B")}, {(1, 2, "A")}]
    got = [{(0, 3, "A"), (5, 7, "B")}, set()]
    scores = score(gold, got)
    assert (scores.micro.tp, scores.micro.fp, scores.micro.fn) == (1, 1, 2)
    assert scores.per_class["A"].f1 == pytest.approx(2 / 3)
    assert scores.per_class["B"].f1 == 0
    assert np.isnan(scores.macro_f1)  # no class has five gold items


def test_interval_holds_the_value_and_narrows_with_more_documents() -> None:
    random = np.random.default_rng(0)
    gold = [{(int(i), "A")} for i in range(200)]
    got = [g if random.random() < 0.8 else set() for g in gold]
    low, high = bootstrap(gold, got).micro
    assert low < score(gold, got).micro.f1 < high
    few_low, few_high = bootstrap(gold[:20], got[:20]).micro
    assert high - low < few_high - few_low


def test_a_lead_is_over_zero_only_where_one_is_better() -> None:
    random = np.random.default_rng(0)
    gold = [{(int(i), "A"), (int(i), "B")} for i in range(100)]
    good, worse = ([g if random.random() < p else set() for g in gold] for p in (0.9, 0.6))
    assert bootstrap_lead(gold, good, worse, macro=False)[0] > 0.05
    assert bootstrap_lead(gold, good, worse, macro=True)[0] > 0.05
    assert bootstrap_lead(gold, good, good, macro=False) == (0.0, 0.0)
    assert set(bootstrap(gold, good).per_class) == {"A", "B"}


def test_engine_evaluation_agrees_with_nervaluate(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    result = evaluate(tiny, read(tiny, corpus, schema), schema, cross_fit=True)
    assert cross_check(result) == pytest.approx(result.spans.micro.f1)
    assert sum(map(len, result.gold_spans)) == sum(len(d.entities) for d in corpus)


def test_spans_that_touch_do_not_confuse_nervaluate(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    result = evaluate(tiny, read(tiny, corpus[:1], schema), schema, cross_fit=False)
    touching = replace(
        result,
        gold_spans=[{("text", 0, 15, "LEGAL"), ("text", 15, 25, "ORG"), ("text", 30, 40, "LEGAL")}],
        predicted_spans=[{("text", 0, 9, "LEGAL"), ("text", 9, 15, "ORG"), ("text", 15, 25, "ORG")}],
    )
    assert cross_check(touching) == pytest.approx(touching.spans.micro.f1)


def test_documents_without_labels_do_not_count_as_documents_with_none(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    unlabelled = [replace(d, id=f"u{d.id}", cats=None) for d in corpus]
    alone = evaluate(tiny, read(tiny, corpus, schema), schema, cross_fit=False)
    mixed = evaluate(tiny, read(tiny, [*corpus, *unlabelled], schema), schema, cross_fit=False)
    assert mixed.labels == alone.labels
    assert mixed.documents == 2 * alone.documents
    nothing = evaluate(tiny, read(tiny, unlabelled, schema), schema, cross_fit=True)
    assert nothing.summary()["label_macro_f1"] is None


def test_documents_without_spans_do_not_count_as_documents_with_none(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    labels_alone = [replace(d, entities=(), known_types=frozenset()) for d in corpus]
    alone = evaluate(tiny, read(tiny, corpus, schema), schema, cross_fit=False)
    mixed = evaluate(tiny, read(tiny, [*corpus, *labels_alone], schema), schema, cross_fit=False)
    assert mixed.spans == alone.spans
    assert mixed.labels.micro.f1 == alone.labels.micro.f1
    nothing = evaluate(tiny, read(tiny, labels_alone, schema), schema, cross_fit=True)
    assert nothing.summary()["span_micro_f1"] is None
    assert np.isnan(cross_check(nothing))


@pytest.mark.skipif(not (SHARED / "real" / "score.py").is_file(), reason="reference data not at hand")
def test_counts_agree_with_the_reference_scorer(tmp_path: Path) -> None:
    documents = list(read_corpus(SHARED / "real" / "dev.jsonl"))
    random = np.random.default_rng(0)

    def disturbed(document: AnnotatedDocument) -> tuple[list[Span], list[str]]:
        spans = [s for s in document.entities if random.random() < 0.8]
        moved = [Span(s.start, s.end + 1, s.type) if random.random() < 0.1 else s for s in spans]
        return moved, [c for c in document.cats or () if random.random() < 0.7]

    predictions = [disturbed(d) for d in documents]
    rows = [
        {"id": d.id, "entities": [[s.start, s.end, s.type] for s in spans], "cats": cats}
        for d, (spans, cats) in zip(documents, predictions, strict=True)
    ]
    (tmp_path / "p.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    command = [
        sys.executable,
        SHARED / "real" / "score.py",
        SHARED / "real" / "dev.jsonl",
        tmp_path / "p.jsonl",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spans = score(
        [{(s.start, s.end, s.type) for s in d.entities} for d in documents],
        [{(s.start, s.end, s.type) for s in got} for got, _ in predictions],
    )
    labels = score(
        [{(c,) for c in d.cats or ()} for d in documents], [{(c,) for c in cats} for _, cats in predictions]
    )
    assert f"spans: micro-F1 {spans.micro.f1:.4f}, macro-F1 (n>=5) {spans.macro_f1:.4f}" in printed
    assert f"labels: micro-F1 {labels.micro.f1:.4f}, macro-F1 (n>=5) {labels.macro_f1:.4f}" in printed
