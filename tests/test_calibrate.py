"""Temperatures and thresholds: fitted where they may be, never on what they judge."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.analyzer import Analyzer
from serving.model_folder import ModelFolder
from training.calibrate import (
    cross_fitted_labels,
    cross_fitted_span_scores,
    expected_calibration_error,
    fit_labels,
    fit_span_temperature,
    span_scores,
)
from training.corpus import AnnotatedDocument
from training.evaluate import read
from training.folder import EvaluationSet
from training.recalibrate import recalibrate, recalibrated
from training.schema import Schema


def toy(seed: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, (600, 3))
    gold = (random.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(float)
    return truth * scale, gold


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale: float) -> None:
    logits, gold = toy(1, scale)
    fitted = fit_labels(logits, gold)
    assert fitted.temperature == pytest.approx(scale, rel=0.25)
    probabilities = 1 / (1 + np.exp(-logits / fitted.temperature))
    assert expected_calibration_error(probabilities.ravel(), gold.ravel()) < 0.03


def test_a_rare_label_keeps_near_the_common_threshold() -> None:
    logits, gold = toy(2, 1.0)
    gold[:, 2] = 0
    gold[0, 2], logits[0, 2] = 1, -3.0  # one document, which only a threshold of 0.05 would catch
    fitted = fit_labels(logits, gold)
    assert abs(fitted.thresholds[2] - np.median(fitted.thresholds[:2])) < 0.3


def test_cross_fitting_never_judges_by_what_it_was_fitted_on() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(0, 1, (60, 6))
    gold = (random.random((60, 6)) < 0.15).astype(float)  # nothing to learn: luck is all there is

    def f1(chosen: list[list[int]]) -> float:
        hits = sum(gold[i, k] for i, labels in enumerate(chosen) for k in labels)
        return float(2 * hits / (sum(map(len, chosen)) + gold.sum()))

    fitted = fit_labels(logits, gold)
    scores = 1 / (1 + np.exp(-logits / fitted.temperature))
    in_sample = f1([list(np.flatnonzero(row >= fitted.thresholds)) for row in scores])
    crossed = cross_fitted_labels(logits, gold, exclusive=[])
    assert f1(crossed.chosen) < in_sample - 0.02
    assert crossed.scores.shape == gold.shape
    assert (crossed.scores > 0).all()


def test_calibration_error_of_a_perfect_and_a_boastful_model() -> None:
    right = np.array([1.0] * 80 + [0.0] * 20)
    assert expected_calibration_error(np.full(100, 0.8), right) == pytest.approx(0.0)
    assert expected_calibration_error(np.full(100, 1.0), right) == pytest.approx(0.2)


def test_where_no_span_is_predicted_there_is_no_temperature_to_fit(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    loud, *others = read(tiny, corpus, schema).readings
    outside = np.eye(len(schema.tags), dtype=np.float32)[0]
    silent = [replace(r, tag_logits=np.tile(9 * outside, (len(r.stream), 1))) for r in others]
    assert fit_span_temperature(silent, corpus[1:], schema) is None
    assert fit_span_temperature([], [], schema) is None
    assert fit_span_temperature([loud], corpus[:1], schema) is not None
    scores, right = cross_fitted_span_scores([loud, *silent], corpus, schema)
    assert len(scores) == len(right) > 0
    assert scores == pytest.approx(span_scores([loud], corpus[:1], schema, 1.0)[0])


def test_documents_without_spans_leave_the_temperature_of_spans(
    tiny_folder: Path, corpus: list[AnnotatedDocument], tmp_path: Path
) -> None:
    labels_alone = [replace(d, entities=(), known_types=frozenset()) for d in corpus]
    sets = [EvaluationSet("dev", labels_alone, is_dev=True)]
    recalibrate(tiny_folder, tmp_path / "again", sets, recalibrated(tiny_folder, [], "embargo calibrate"))
    before, after = (ModelFolder.open(path).config for path in (tiny_folder, tmp_path / "again"))
    assert after.temperatures.spans == before.temperatures.spans
    assert after.temperatures.labels == before.temperatures.labels  # the same labels as before
