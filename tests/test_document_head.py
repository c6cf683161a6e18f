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
        served = (document_head.attention(scores[mine]) * values[mine]).sum(axis=0)
        assert served == pytest.approx(trained[document], abs=1e-5)


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
