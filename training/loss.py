"""The losses of tags and labels. All know the difference between absent and not annotated."""

import torch
from torch import Tensor
from torch.nn import functional


def tag_loss(logits: Tensor, allowed: Tensor) -> Tensor:
    """Negative log of the mass on the tags that the annotation allows, mean over tokens.

    Where a corpus annotates a token fully one tag is allowed and this is cross-entropy. Where
    it annotates only some types, an unmarked token may be O or any tag of the other types.

    *Shape:* logits (tokens, tags); allowed (tokens, tags), boolean -> ().
    """
    mass = logits.masked_fill(~allowed, -torch.inf).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - mass).mean()


def soft_tag_loss(logits: Tensor, soft: Tensor, tokens: int) -> Tensor:
    """Cross-entropy against teachers' probabilities, summed and divided by all `tokens` of a step.

    *Shape:* logits, soft (taught tokens, tags) -> ().
    """
    return -(soft * logits.log_softmax(dim=1)).sum() / tokens


def label_loss(logits: Tensor, targets: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy over the documents whose labels are known or taught; 0 if none is.

    *Shape:* logits, targets, weights (documents, labels); known (documents,) -> ().
    """
    if not known.any():
        return logits.sum() * 0.0
    return functional.binary_cross_entropy_with_logits(
        logits[known], targets[known], pos_weight=weights[known]
    )


def label_weights(targets: Tensor, highest: float) -> Tensor:
    """What a positive weighs: sqrt(negatives / positives), from 1 to `highest`.

    *Shape:* (documents, labels) -> (labels,).
    """
    positives = targets.sum(dim=0).clamp(min=1)
    return ((len(targets) - positives) / positives).clamp(min=1).sqrt().clamp(max=highest)
