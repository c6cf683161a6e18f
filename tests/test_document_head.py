"""Labels: attention over the document, thresholds, the label that stands alone, evidence."""

import numpy as np
import pytest
import torch

from serving import document_head
from training.model import document_logits


def test_serving_and_training_pool_alike() -> None:
    random = np.random.default_rng(1)
    scores, values = random.normal(0, 3, (2, 30, 5)).astype(np.float32)
    owners = np.repeat([0, 1, 2], [4, 25, 1])
    trained = document_logits(*map(torch.from_numpy, (scores, values, owners)), documents=3).numpy()
    for document in range(3):
        mine = owners == document
        served = (document_head.attention(scores[mine], values[mine], [0]) * values[mine]).sum(axis=0)
        assert served == pytest.approx(trained[document], abs=1e-5)


def test_one_page_of_a_report_keeps_its_labels() -> None:
    """What an article says alone it says between others too; what denies relevance must hold everywhere."""
    random = np.random.default_rng(2)
    tokens, page = 6000, slice(3100, 3500)
    scores = random.normal(0, 1, (tokens, 3)).astype(np.float32)
    values = random.normal(0, 1, (tokens, 3)).astype(np.float32) + np.array([6, -6, -6], np.float32)
    scores[page] += 2
    values[page] += np.array([-14, 14, 0], np.float32)

    weights = document_head.attention(scores, values, exclusive=[0])
    assert weights.shape == scores.shape
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    denied, named, absent = (weights * values).sum(axis=0)
    assert denied < 0 < named
    assert absent < 0
    assert weights[page, 1].sum() > 0.7
    for label in (0, 1):  # judged by a stretch, not by everything
        assert (weights[:, label] > 0).sum() == 1024

    whole = np.exp(scores) / np.exp(scores).sum(axis=0)
    assert (whole * values).sum(axis=0)[1] < 0  # what pooling over everything would have said


@pytest.mark.parametrize("tokens", [1, 700, 1024, 1025, 1536, 1537, 2500])
def test_every_token_of_a_long_text_is_in_some_stretch(tokens: int) -> None:
    for at in {0, tokens // 2, tokens - 1}:
        values = np.full((tokens, 2), -1.0, np.float32)
        values[at, 1] = 1e6
        weights = document_head.attention(np.zeros((tokens, 2), np.float32), values, exclusive=[0])
        assert weights[at, 1] > 0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.2, 0.3], [0]),  # not_sanctions wins and stands alone
        ([0.6, 0.7, 0.1], [1]),  # it is over its threshold but beaten
        ([0.4, 0.8, 0.6], [1, 2]),
        ([0.4, 0.3, 0.2], []),  # nothing is forced
        ([0.6, 0.6, 0.1], [1]),  # a tie is not a win
    ],
)
def test_not_sanctions_stands_alone_or_not_at_all(scores: list[float], expected: list[int]) -> None:
    assert document_head.choose(np.array(scores), [0.5, 0.5, 0.5], exclusive=[0]) == expected


def test_not_sanctions_must_beat_labels_under_their_thresholds_too() -> None:
    assert document_head.choose(np.array([0.55, 0.6]), [0.5, 0.7], exclusive=[0]) == []


def test_evidence_goes_to_the_sentence_that_is_attended_to_and_agrees() -> None:
    weights = np.array([0.05, 0.05, 0.45, 0.45])
    shares = document_head.sentence_shares(weights, np.array([3.0, 3.0, 2.0, 2.0]), np.array([0, 0, 1, 1]))
    assert shares.sum() == pytest.approx(1.0)
    assert shares[1] > shares[0]
    against = document_head.sentence_shares(weights, np.array([3.0, 3.0, -9.0, -9.0]), np.array([0, 0, 1, 1]))
    assert against[0] > 0.9
