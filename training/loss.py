"""The two losses. Both know the difference between absent and not annotated."""

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


def label_loss(logits: Tensor, targets: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy over the documents whose labels are known; 0 if none is.

    *Shape:* logits, targets (documents, labels); known (documents,); weights (labels,) -> ().
    """
    if not known.any():
        return logits.sum() * 0.0
    return functional.binary_cross_entropy_with_logits(logits[known], targets[known], pos_weight=weights)


def label_weights(targets: Tensor, highest: float) -> Tensor:
    """What a positive weighs: sqrt(negatives / positives), from 1 to `highest`.

    *Shape:* (documents, labels) -> (labels,).
    """
    positives = targets.sum(dim=0).clamp(min=1)
    return ((len(targets) - positives) / positives).clamp(min=1).sqrt().clamp(max=highest)
