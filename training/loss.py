"""The losses of tags and labels. All know the difference between absent and not annotated."""

import torch
from torch import Tensor
from torch.nn import functional


def tag_loss(logits: Tensor, allowed: Tensor, taught: Tensor, soft: Tensor, smoothing: float = 0.0) -> Tensor:
    """Negative log of the mass on the tags that the annotation allows, mean over tokens; 0 if none is known.

    Where a corpus annotates a token fully one tag is allowed and this is cross-entropy. Where
    it annotates only some types, an unmarked token may be O or any tag of the other types. A token
    of which nothing is known, any tag allowed, does not count, unless teachers speak of it: then
    it is cross-entropy against their probabilities. `smoothing` is the share of an annotated
    token's loss that wants all tags alike probable.

    *Shape:* logits (tokens, tags); allowed (tokens, tags), boolean; taught (taught tokens,), rows of
    `logits`; soft (taught tokens, tags) -> ().
    """
    mass = logits.masked_fill(~allowed, -torch.inf).logsumexp(dim=1)
    annotated = (logits.logsumexp(dim=1) - mass).sum()
    if smoothing:
        even = -logits[allowed.sum(dim=1) == 1].log_softmax(dim=1).mean(dim=1).sum()
        annotated = (1 - smoothing) * annotated + smoothing * even
    explained = -(soft * logits[taught].log_softmax(dim=1)).sum()
    known = (~allowed.all(dim=1)).sum() + len(taught)
    return (annotated + explained) / known.clamp(min=1)


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
