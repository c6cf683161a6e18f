"""The losses: cross-entropy where all is annotated, lenient where it is not."""

import pytest
import torch
from torch.nn import functional

from training.loss import label_loss, label_weights, tag_loss

NONE = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3)
"""No token that teachers speak of."""
LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.5, 0.2, 3.0]])


def test_full_annotation_is_cross_entropy() -> None:
    gold = torch.tensor([0, 2])
    allowed = functional.one_hot(gold, 3).bool()
    assert tag_loss(LOGITS, allowed, *NONE).item() == pytest.approx(
        functional.cross_entropy(LOGITS, gold).item()
    )


def test_smoothing_is_that_of_pytorch_where_all_is_annotated() -> None:
    gold = torch.tensor([0, 2])
    allowed = functional.one_hot(gold, 3).bool()
    smooth = functional.cross_entropy(LOGITS, gold, label_smoothing=0.1)
    assert tag_loss(LOGITS, allowed, *NONE, smoothing=0.1).item() == pytest.approx(smooth.item())
    open_token = torch.ones(1, 3, dtype=torch.bool)
    both = tag_loss(LOGITS[[0, 1, 1]], torch.cat([allowed, open_token]), *NONE, smoothing=0.1)
    assert both.item() == pytest.approx(smooth.item())  # of what is not known nothing is wanted


def test_types_that_are_not_annotated_are_not_punished() -> None:
    lenient = torch.tensor([[True, False, True], [True, False, True]])
    strict = torch.tensor([[True, False, False], [True, False, False]])
    assert tag_loss(LOGITS, lenient, *NONE) < tag_loss(LOGITS, strict, *NONE)
    logits = LOGITS.clone().requires_grad_()
    tag_loss(logits, lenient, *NONE).backward()
    assert logits.grad is not None
    assert logits.grad[1, 2] < 0  # the unknown type is drawn up, not pushed down
    assert logits.grad[1, 1] > 0


def test_tokens_of_which_nothing_is_known_do_not_thin_out_the_others() -> None:
    gold = functional.one_hot(torch.tensor([0, 2]), 3).bool()
    unknown = torch.ones(2, 3, dtype=torch.bool)
    both = tag_loss(LOGITS.repeat(2, 1), torch.cat([gold, unknown]), *NONE)
    assert both.item() == pytest.approx(tag_loss(LOGITS, gold, *NONE).item())
    assert tag_loss(LOGITS, unknown, *NONE).item() == 0


def test_certain_teachers_are_gold() -> None:
    gold = functional.one_hot(torch.tensor([0, 2]), 3)
    unknown = torch.ones(2, 3, dtype=torch.bool)
    expected = tag_loss(LOGITS, gold.bool(), *NONE).item()
    assert tag_loss(LOGITS, unknown, torch.arange(2), gold.float()).item() == pytest.approx(expected)
    half = tag_loss(LOGITS, torch.cat([gold[:1].bool(), unknown[1:]]), torch.tensor([1]), gold[1:].float())
    assert half.item() == pytest.approx(expected)


def test_documents_without_labels_teach_no_labels() -> None:
    logits = torch.randn(2, 4, requires_grad=True)
    targets = torch.ones(2, 4)
    loss = label_loss(logits, targets, torch.tensor([True, False]), torch.ones(2, 4))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0
    assert label_loss(logits, targets, torch.tensor([False, False]), torch.ones(2, 4)).item() == 0


def test_rare_labels_weigh_more_and_at_most_the_limit() -> None:
    targets = torch.zeros(100, 3)
    targets[:50, 0] = targets[:20, 1] = targets[:1, 2] = 1
    assert label_weights(targets, 4.0).tolist() == pytest.approx([1.0, 2.0, 4.0])
