"""The page holds the figures of the evaluation, the errors, and no text that breaks it."""

from dataclasses import replace
from pathlib import Path

from serving.analyzer import Analyzer
from training.corpus import AnnotatedDocument, Span
from training.evaluate import evaluate, read
from training.html_report import Measured, write_html
from training.predictions import Prediction, evaluate_predictions
from training.schema import Schema
from training.span_errors import OUTSIDE, span_errors, type_confusion

TEXT = "Kim and Li sold <b>coal</b> to Acme in Rajin."
GOLD = AnnotatedDocument(
    "d",
    TEXT,
    (Span(0, 3, "PERSON"), Span(8, 10, "PERSON"), Span(19, 23, "GOODS"), Span(31, 35, "ORG")),
    ("relief",),
    title="Oil",
)
PREDICTED = Prediction(
    "d",
    (Span(0, 3, "PERSON"), Span(8, 15, "PERSON"), Span(19, 23, "WEAPON"), Span(39, 44, "LOCATION")),
    title_entities=(Span(0, 3, "GOODS"),),
)


def test_each_error_has_its_kind(schema: Schema) -> None:
    result = evaluate_predictions([GOLD], {"d": PREDICTED}, schema, cross_fit=False)
    errors = [(e.kind, e.surface(e.gold), e.surface(e.got)) for e in span_errors(result)]
    assert errors == [
        ("border", "Li", "Li sold"),
        ("type", "coal", "coal"),
        ("missed", "Acme", ""),
        ("spurious", "", "Rajin"),
        ("spurious", "", "Oil"),
    ]
    assert type_confusion(result) == {
        ("PERSON", "PERSON"): 2,
        ("GOODS", "WEAPON"): 1,
        ("ORG", OUTSIDE): 1,
        (OUTSIDE, "LOCATION"): 1,
        (OUTSIDE, "GOODS"): 1,
    }
    first = next(iter(span_errors(result)))
    assert first.context(4) == ("and ", "Li sold", " <b>")


def test_the_page_holds_figures_errors_and_other_systems(tmp_path: Path, schema: Schema) -> None:
    result = evaluate_predictions([GOLD], {"d": PREDICTED}, schema, cross_fit=False)
    nothing = evaluate_predictions([GOLD], {}, schema, cross_fit=False)
    model = {"name": "mine", "version": "7", "sha256": "abc"}
    write_html([Measured("dev.jsonl", result, {"silence": nothing})], model, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for expected in ("mine-v7", "dev.jsonl", "silence", "Examples: missed", "&lt;b&gt;", "data:image/png"):
        assert expected in page
    assert f"{result.spans.micro.f1:.3f}" in page
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_model_of_ours_makes_a_page(
    tmp_path: Path, tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    documents = [replace(d, source="x", genre="wire") for d in corpus]
    result = evaluate(tiny, read(tiny, documents, schema), schema, cross_fit=True)
    model = {"name": "tiny", "version": "1", "sha256": "abc"}
    write_html([Measured("dev", result, {})], model, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"{result.span_calibration_error:.3f}" in page
    for name in result.labels.per_class:
        assert name in page
