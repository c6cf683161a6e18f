"""Tag logits to spans: the best legal BIO path, and the probability of each span on it.

The only decoder there is: endpoint, CLI, corpus scoring, training and evaluation use it.

A path is legal if I-x follows B-x or I-x only, if a word is never split between two
spans or between a span and the outside, and if no span crosses from title to text. The
distribution over paths is the softmax of the summed logits of the legal ones; a span's
score is the share of that mass that runs through exactly this span (forward-backward).

All of that couples neighbours only through I tags and words. In the middle of a run of
tokens that are surely outside, the chain falls apart into pieces that are decoded side by
side: a span across such a run would need an unlikely tag at each of its tokens. Where the
most probable tags of a piece are a legal path, no other path is better, and none is sought.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serving.tokens import TokenStream

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# A token is surely outside if all other tags together have less than this. Cutting in the
# middle of four such tokens misplaces less than its fourth power, 1e-6: scores have three decimals.
# At 0.001 calibrated texts were hardly cut at all, and one of 400 tokens took 8 ms and not 1.3.
_SURE = 0.03


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Tokens `first` to `last`, both included; `type` indexes the model's span types."""

    first: int
    last: int
    type: int
    score: float


def tag_names(types: Sequence[str]) -> list[str]:
    """The tags in the order of the tag head: O, all B, all I."""
    return ["O", *(f"B-{t}" for t in types), *(f"I-{t}" for t in types)]


def decode(
    tag_logits: Sequence[npt.NDArray[np.float32]],
    streams: Sequence[TokenStream],
    temperature: float,
) -> list[list[TokenSpan]]:
    """The spans of each document. `tag_logits`: a *Shape:* (tokens, tags) a document."""
    spans: list[list[TokenSpan]] = [[] for _ in streams]
    chain = _Chain.of(tag_logits, streams, temperature)
    if not len(chain.emission):
        return spans
    tags = _best_tags(chain)
    first = np.flatnonzero((tags >= 1) & (tags <= chain.types))
    if not len(first):
        return spans
    last = _last_tokens(tags, first, chain)
    score = _scores(chain, tags, first, last)
    offsets = np.cumsum([0, *(len(stream) for stream in streams)])
    document = np.searchsorted(offsets, first, side="right") - 1
    columns = document, first - offsets[document], last - offsets[document], tags[first] - 1, score
    for at, begin, end, kind, probability in zip(*(column.tolist() for column in columns), strict=True):
        spans[at].append(TokenSpan(begin, end, kind, min(probability, 1.0)))
    return spans


@dataclass(frozen=True, slots=True)
class _Chain:
    """All tokens of all documents, cut into pieces."""

    emission: Float
    """Probability of each tag. *Shape:* (tokens, tags)."""
    goes_on: Bool
    """True where a token continues a word. *Shape:* (tokens,)."""
    heads: Int
    """The first token of each piece. *Shape:* (pieces,)."""

    @classmethod
    def of(
        cls,
        tag_logits: Sequence[npt.NDArray[np.float32]],
        streams: Sequence[TokenStream],
        temperature: float,
    ) -> "_Chain":
        if not streams:
            return cls(np.empty((0, 0)), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64))
        logits = np.concatenate(tag_logits).astype(np.float64) / temperature
        logits -= logits.max(axis=1, keepdims=True)
        emission = np.exp(logits)
        emission /= emission.sum(axis=1, keepdims=True)
        continues = np.concatenate([stream.continues for stream in streams])
        begins = np.concatenate([_field_begins(stream) for stream in streams])
        # A run of sure tokens does not reach from one document or field into the next, so that a
        # document is cut in the same places whatever it is decoded with.
        sure = _inside_sure_run(emission[:, 0] > 1 - _SURE, np.cumsum(begins))
        is_head = begins | (sure & ~continues)
        return cls(emission, continues & ~is_head, np.flatnonzero(is_head))

    @property
    def types(self) -> int:
        """Types of spans."""
        return int(self.emission.shape[1] - 1) // 2

    def piece_of(self, tokens: Int) -> Int:
        """The number of the piece that each token is in."""
        return np.asarray(np.searchsorted(self.heads, tokens, side="right") - 1)

    def ends(self) -> Int:
        """One past the last token of each piece. *Shape:* (pieces,)."""
        return np.append(self.heads[1:], len(self.emission))


def _inside_sure_run(sure: Bool, field_of: Int) -> Bool:
    """True where a token, the next and the two before it are all sure, and of one field.

    *Shape:* (tokens,) each.
    """
    inside = np.zeros_like(sure)
    inside[2:-1] = sure[:-3] & sure[1:-2] & sure[2:-1] & sure[3:] & (field_of[:-3] == field_of[3:])
    return inside


def _field_begins(stream: TokenStream) -> Bool:
    """True at the first token of each field. *Shape:* (tokens,)."""
    return np.concatenate([[True], np.diff(stream.fields) != 0])[: len(stream)]


class _Steps:
    """Pieces side by side, token after token: those that a step reaches are the first ones.

    The longest piece comes first, so nothing is padded. Arrays have a place for each token, step by step.
    """

    def __init__(self, chain: _Chain, pieces: Int) -> None:
        heads, lengths = chain.heads[pieces], (chain.ends() - chain.heads)[pieces]
        order = np.argsort(-lengths, kind="stable")
        reached = len(pieces) - np.searchsorted(lengths[order][::-1], np.arange(lengths.max()), side="right")
        bounds = np.concatenate([[0], np.cumsum(reached)])
        step = np.repeat(np.arange(len(reached)), reached)
        row = np.arange(len(step)) - bounds[step]
        self.tokens: Int = heads[order][row] + step
        """The token of the chain at each place."""
        self.slices = [slice(*pair) for pair in pairwise(bounds.tolist())]
        """The places of each step."""
        self.pieces = len(pieces)


class _ByTag(NamedTuple):
    """What the tags of the tokens of some pieces are worth, by kind of tag."""

    outer: Float
    """Probability of O. *Shape:* (places,)."""
    begun: Float
    """Probability of each B, 0 where none may begin. *Shape:* (places, types)."""
    inner: Float
    """Probability of each I. *Shape:* (places, types)."""
    goes_on: Bool
    """True where a token continues a word. *Shape:* (places,)."""

    @classmethod
    def of(cls, chain: _Chain, steps: _Steps) -> "_ByTag":
        emission, goes_on = chain.emission[steps.tokens], chain.goes_on[steps.tokens]
        begun = np.where(goes_on[:, None], 0.0, emission[:, 1 : 1 + chain.types])
        return cls(emission[:, 0], begun, emission[:, 1 + chain.types :], goes_on)


def _best_tags(chain: _Chain) -> Int:
    """The most probable legal tags. *Shape:* (tokens,)."""
    tags: Int = chain.emission.argmax(axis=1)
    before = np.concatenate([[0], tags[:-1]])
    before[chain.heads] = 0
    is_inner = tags > chain.types
    follows = (before > 0) & ((before - 1) % chain.types == (tags - 1) % chain.types)
    legal = np.where(is_inner, follows, ~chain.goes_on | ((tags == 0) & (before == 0)))
    broken = np.flatnonzero(~np.logical_and.reduceat(legal, chain.heads))
    if len(broken):
        steps = _Steps(chain, broken)
        tags[steps.tokens] = _best_path(chain, steps)
    return tags


def _best_path(chain: _Chain, steps: _Steps) -> Int:
    """The most probable legal tags of some pieces (Viterbi). *Shape:* (places,)."""
    logs = np.log(np.maximum(chain.emission[steps.tokens], 1e-300))
    goes_on = chain.goes_on[steps.tokens, None]
    types, tags = chain.types, logs.shape[1]
    came_from = np.empty(logs.shape, dtype=np.int16)
    path = np.empty(len(logs), dtype=np.int64)
    best = np.full((steps.pieces, tags), -np.inf)
    best[:, 0] = 0.0
    for here in steps.slices:
        best = best[: here.stop - here.start]
        any_tag = best.argmax(axis=1)[:, None]
        any_score = np.take_along_axis(best, any_tag, axis=1)
        begun, inner = best[:, 1 : 1 + types], best[:, 1 + types :]
        came_from[here, :1] = np.where(goes_on[here], 0, any_tag)
        came_from[here, 1 : 1 + types] = any_tag
        came_from[here, 1 + types :] = np.arange(1, 1 + types) + types * (begun < inner)
        score = np.empty_like(best)
        score[:, :1] = np.where(goes_on[here], best[:, :1], any_score)
        score[:, 1 : 1 + types] = np.where(goes_on[here], -np.inf, any_score)
        score[:, 1 + types :] = np.maximum(begun, inner)
        best = score + logs[here]
        path[here] = best.argmax(axis=1)  # if the piece ends here
    later = slice(0, 0)
    for here in reversed(steps.slices):
        if reached := later.stop - later.start:  # of these pieces the next token is decided
            path[here][:reached] = came_from[later][np.arange(reached), path[later]]
        later = here
    return path


def _last_tokens(tags: Int, first: Int, chain: _Chain) -> Int:
    """The last token of the span that begins at each of `first`. *Shape:* (spans,)."""
    # What goes on after a token of a span are I tags; a legal path has no others of them.
    stops = np.flatnonzero(np.append(tags <= chain.types, True))
    stops = np.union1d(stops, chain.heads)
    return stops[np.searchsorted(stops, first, side="right")] - 1


def _scores(chain: _Chain, tags: Int, first: Int, last: Int) -> Float:
    """The probability of each span. *Shape:* (spans,)."""
    steps = _Steps(chain, np.unique(chain.piece_of(first)))
    scale, after = (np.ones(len(tags) + 1) for _ in range(2))
    by_tag = _ByTag.of(chain, steps)
    scale[steps.tokens] = _forward(by_tag, steps)
    after[steps.tokens] = _after_span(by_tag, steps, scale[steps.tokens])
    ratio = np.ones(len(tags) + 1)
    ratio[:-1] = np.take_along_axis(chain.emission, tags[:, None], axis=1)[:, 0]
    ratio /= scale
    along = np.multiply.reduceat(ratio, np.stack([first, last + 1], axis=1).ravel())[::2]
    return np.asarray(along * after[last])


def _forward(by_tag: _ByTag, steps: _Steps) -> Float:
    """What the mass of legal prefixes shrinks by at each step (forward pass, scaled to 1).

    *Shape:* (places,).
    """
    outer, begun, inner, goes_on = by_tag
    scale = np.empty(len(outer))
    entity = np.zeros((steps.pieces, begun.shape[1]))  # mass in B-x or I-x at the step before
    outside = np.ones(steps.pieces)
    for here in steps.slices:
        reached = here.stop - here.start
        entity = entity[:reached] * inner[here] + begun[here]
        outside = np.where(goes_on[here], outside[:reached], 1.0) * outer[here]
        total = entity.sum(axis=1) + outside
        if not total.all():
            # A dead end (a word piece that no legal tag fits) leaves the piece outside.
            dead = total <= 0
            entity[dead], outside[dead], total[dead] = 0.0, 1.0, 1.0
        scale[here] = total
        entity /= total[:, None]
        outside /= total
    return scale


def _after_span(by_tag: _ByTag, steps: _Steps, scale: Float) -> Float:
    """Scaled mass of all ways to go on after a span that ends here. *Shape:* (places,)."""
    outer, begun, inner = by_tag.outer / scale, by_tag.begun / scale[:, None], by_tag.inner / scale[:, None]
    goes_on = by_tag.goes_on
    after = np.ones(len(outer))
    entity = np.ones((steps.pieces, begun.shape[1]))
    outside = np.ones(steps.pieces)
    later = slice(0, 0)
    for here in reversed(steps.slices):
        if reached := later.stop - later.start:
            follows, ahead = entity[:reached], outside[:reached]  # of these pieces there is more
            ahead[:] = ahead * outer[later] + (follows * begun[later]).sum(axis=1)
            restart = np.where(goes_on[later], 0.0, ahead)
            follows[:] = follows * inner[later] + restart[:, None]
            after[here][:reached] = restart
        later = here
    return after
