"""Baselines learn from training documents alone, and are judged as the model is."""

from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import CorpusError
from training.baselines import run
from training.baselines.lookup import SurfaceLookup, predict_lookup
from training.baselines.run import run_baselines
from training.baselines.tfidf import predict_tfidf
from training.corpus import AnnotatedDocument, Span, write_corpus
from training.data import TrainingData
from training.predictions import (
    Prediction,
    evaluate_predictions,
    predictions_of,
    read_predictions,
    write_predictions,
)
from training.schema import Schema


def test_lookup_prefers_the_longest_and_forgets_what_is_rarely_a_name() -> None:
    text = "Rajin Port and Rajin. May 2020. It may. May it? May they?"
    spans = (Span(0, 10, "FACILITY"), Span(15, 20, "LOCATION"), Span(22, 30, "DATE"), Span(40, 43, "DATE"))
    lookup = SurfaceLookup([AnnotatedDocument("a", text.replace("It may", "In May"), spans, ("relief",))])
    found = lookup.spans("At Rajin Port, not Rajin. May they.")
    assert found == (Span(3, 13, "FACILITY"), Span(19, 24, "LOCATION"))


def test_documents_of_labels_alone_teach_no_spans() -> None:
    labels_alone = AnnotatedDocument("b", "Rajin Rajin Rajin", (), ("relief",), known_types=frozenset())
    lookup = SurfaceLookup([AnnotatedDocument("a", "Rajin", (Span(0, 5, "LOCATION"),), ()), labels_alone])
    assert lookup.spans("Rajin") == (Span(0, 5, "LOCATION"),)


def test_lookup_gives_the_commonest_labels(corpus: list[AnnotatedDocument]) -> None:
    train = [*corpus, replace(corpus[0], id="again")]
    predictions = predict_lookup(train, [AnnotatedDocument("x", "Russia", (), ())])
    assert predictions == [Prediction("x", (Span(0, 6, "LOCATION"),), cats=corpus[0].cats or ())]


def test_tfidf_learns_what_words_say(corpus: list[AnnotatedDocument], schema: Schema) -> None:
    predictions = {p.id: p for p in predict_tfidf(corpus, corpus, schema, seed=1)}
    result = evaluate_predictions(corpus, predictions, schema, cross_fit=True)
    assert result.labels.micro.f1 > 0.9
    assert result.thresholds == "cross-fitted"
    names = list(schema.labels)
    logits = predictions[corpus[0].id].logits
    assert logits is not None
    assert logits[names.index("overseas_labour")] > logits[names.index("not_sanctions")]
    assert logits[names.index("relief")] < -10  # never seen


def test_predictions_come_back_and_count_as_the_scorer_counts(tmp_path: Path, schema: Schema) -> None:
    gold = [
        AnnotatedDocument("a", "Kim met Li", (Span(0, 3, "PERSON"), Span(8, 10, "PERSON")), ("relief",)),
        AnnotatedDocument("b", "Oil", (Span(0, 3, "GOODS"),), None, title="Kim"),
        AnnotatedDocument("c", "Oil", (), ("relief",), known_types=frozenset()),
    ]
    written = [
        Prediction("a", (Span(0, 3, "PERSON"),), cats=("relief",)),
        Prediction("c", (Span(0, 3, "GOODS"),), (Span(0, 3, "PERSON"),), logits=(0.5,) * 16),
    ]
    write_predictions(tmp_path / "p.jsonl", written)
    found = read_predictions(tmp_path / "p.jsonl")
    assert list(found.values()) == written
    result = evaluate_predictions(gold, found, schema, cross_fit=False)
    micro = result.spans.micro
    assert (micro.tp, micro.fp, micro.fn) == (1, 0, 2)
    assert (result.labels.micro.tp, result.labels.micro.fn) == (1, 1)
    for broken in ('{"id": "a"}\n', '{"id": "a", "entities": []}\n' * 2):
        (tmp_path / "p.jsonl").write_text(broken)
        with pytest.raises(CorpusError, match="not a prediction"):
            read_predictions(tmp_path / "p.jsonl")


def test_logits_of_another_schema_are_refused(schema: Schema) -> None:
    gold = [AnnotatedDocument("a", "Kim", (), ("relief",))]
    with pytest.raises(CorpusError, match="has 1 logits; expected 16"):
        evaluate_predictions(gold, {"a": Prediction("a", (), logits=(0.5,))}, schema, cross_fit=True)


def test_a_missing_prediction_costs_its_document_alone(
    corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    predictions = {p.id: p for p in predict_tfidf(corpus, corpus, schema, seed=1)}
    whole = evaluate_predictions(corpus, predictions, schema, cross_fit=True)
    del predictions[corpus[0].id]
    without = evaluate_predictions(corpus, predictions, schema, cross_fit=True)
    assert without.predicted_labels[0] == set()
    assert without.labels.micro.f1 > 0.7 * whole.labels.micro.f1


def test_every_baseline_writes_what_it_read(
    tmp_path: Path, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    file = tmp_path / "dev.jsonl"
    write_corpus(file, [replace(corpus[0], title="Russia said"), *corpus[1:]])
    said: list[str] = []
    data = TrainingData(corpus, corpus)
    run_baselines(data, [file], schema, tmp_path / "out", seed=1, spacy_steps=201, say=said.append)
    found = predictions_of(tmp_path / "out", file)
    assert set(found) == {"lookup", "tfidf", "spacy-cnn"}
    assert len(said) == 3
    for predictions in found.values():
        assert list(predictions) == [document.id for document in corpus]
    spacy = evaluate_predictions(corpus, found["spacy-cnn"], schema, cross_fit=False)
    assert spacy.spans.micro.f1 > 0.5
    assert all(found["tfidf"][document.id].cats for document in corpus)  # thresholds come from dev
    before = (tmp_path / "out" / "spacy-cnn" / "model-best" / "meta.json").stat().st_mtime_ns
    for seed, same in ((1, True), (2, False)):
        run_baselines(data, [file], schema, tmp_path / "out", seed=seed, spacy_steps=201, say=said.append)
        after = (tmp_path / "out" / "spacy-cnn" / "model-best" / "meta.json").stat().st_mtime_ns
        assert (before == after) is same
    other = tmp_path / "other.jsonl"
    write_corpus(other, corpus)
    assert predictions_of(tmp_path / "out", other) == {}


@pytest.mark.parametrize("labelled", [False, True])
def test_baselines_do_without_labels_of_dev_and_of_all(
    tmp_path: Path,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    monkeypatch: pytest.MonkeyPatch,
    labelled: bool,
) -> None:
    def predict_spacy(folder: Path, documents: list[AnnotatedDocument], schema: Schema) -> list[Prediction]:
        return [Prediction(d.id, d.entities, logits=(0.0,) * len(schema.labels)) for d in documents]

    if labelled:  # without labels spaCy itself is trained: it has its own demands
        monkeypatch.setattr(
            run, "train_spacy", lambda train, dev, folder, **asked: folder.mkdir(parents=True)
        )
        monkeypatch.setattr(run, "predict_spacy", predict_spacy)
    spans_alone = [replace(document, cats=None) for document in corpus]
    file = tmp_path / "dev.jsonl"
    write_corpus(file, spans_alone)
    data = TrainingData(corpus if labelled else spans_alone, spans_alone)
    run_baselines(data, [file], schema, tmp_path / "out", seed=1, spacy_steps=201, say=lambda line: None)
    found = predictions_of(tmp_path / "out", file)
    assert set(found) == {"lookup", "spacy-cnn", *(["tfidf"] if labelled else [])}
    for predictions in found.values():
        result = evaluate_predictions(spans_alone, predictions, schema, cross_fit=True)
        assert result.label_documents == []
