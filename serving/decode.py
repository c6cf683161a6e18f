"""Tag logits to spans: the best legal BIO path, and the probability of each span on it.

The only decoder there is: endpoint, CLI, corpus scoring, training and evaluation use it.

A path is legal if I-x follows B-x or I-x only, if a word is never split between two
spans or between a span and the outside, and if no span crosses from title to text. The
distribution over paths is the softmax of the summed logits of the legal ones; a span's
score is the share of that mass that runs through exactly this span (forward-backward).

All of that couples neighbours only through I tags and words. In the middle of a run of
tokens that are surely outside, the chain falls apart into pieces that are decoded side by
side: a span across such a run would need an unlikely tag at each of its tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.tokens import TokenStream

Float = npt.NDArray[np.float64]

# A token is surely outside if all other tags together have less than this. Cutting in the
# middle of four such tokens misplaces mass of the order of the fourth power.
_SURE = 1e-3
_PIECES_AT_ONCE = 4096


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
    if not streams:
        return []
    offsets = np.cumsum([0, *(len(stream) for stream in streams)])
    logits = np.concatenate(tag_logits).astype(np.float64) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    emission = np.exp(logits)
    emission /= emission.sum(axis=1, keepdims=True)
    continues = np.concatenate([stream.continues for stream in streams])
    begins = np.concatenate([_field_begins(stream) for stream in streams])

    # A run of sure tokens does not reach from one document or field into the next, so that a
    # document is cut in the same places whatever it is decoded with.
    sure = _inside_sure_run(emission[:, 0] > 1 - _SURE, np.cumsum(begins))
    heads = np.flatnonzero(begins | (sure & ~continues))
    lengths = np.diff(np.append(heads, len(emission)))
    spans: list[list[TokenSpan]] = [[] for _ in streams]
    found: list[tuple[int, int, int, float]] = []
    for chosen in _similar_lengths(lengths):
        found += _decode_pieces(emission, continues, heads[chosen], lengths[chosen])
    for first, last, kind, score in sorted(found):
        document = int(np.searchsorted(offsets, first, side="right")) - 1
        base = int(offsets[document])
        spans[document].append(TokenSpan(first - base, last - base, kind, score))
    return spans


def _inside_sure_run(sure: npt.NDArray[np.bool_], field_of: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True where a token, the next and the two before it are all sure, and of one field.

    *Shape:* (tokens,) each.
    """
    inside = np.zeros_like(sure)
    inside[2:-1] = sure[:-3] & sure[1:-2] & sure[2:-1] & sure[3:] & (field_of[:-3] == field_of[3:])
    return inside


def _field_begins(stream: TokenStream) -> npt.NDArray[np.bool_]:
    """True at the first token of each field. *Shape:* (tokens,)."""
    return np.concatenate([[True], np.diff(stream.fields) != 0])


def _similar_lengths(lengths: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of pieces that are within a factor of two of each other in length."""
    bucket = np.ceil(np.log2(lengths)).astype(np.int64)
    for value in np.unique(bucket):
        members = np.flatnonzero(bucket == value)
        for at in range(0, len(members), _PIECES_AT_ONCE):
            yield members[at : at + _PIECES_AT_ONCE]


def _decode_pieces(
    emission: Float,
    continues: npt.NDArray[np.bool_],
    heads: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> list[tuple[int, int, int, float]]:
    """Spans of pieces of the chain as (first, last, type, score), tokens counted globally."""
    steps = int(lengths.max())
    index = heads[:, None] + np.minimum(np.arange(steps), lengths[:, None] - 1)
    inside = np.arange(steps) < lengths[:, None]
    probability = emission[index].transpose(1, 0, 2)  # (steps, pieces, tags)
    # Behind the end of a piece only O is possible, which changes nothing before it.
    probability = np.where(inside.T[:, :, None], probability, np.eye(emission.shape[1])[0])
    goes_on = continues[index].T & inside.T
    goes_on[0] = False

    scale = _forward(probability, goes_on)
    after = _after_span(probability, goes_on, scale)
    tags = _best_path(probability, goes_on)
    types = (emission.shape[1] - 1) // 2
    found = []
    for step, piece in zip(*np.nonzero((tags >= 1) & (tags <= types)), strict=True):
        kind = int(tags[step, piece]) - 1
        last = step
        while last + 1 < steps and tags[last + 1, piece] == 1 + types + kind:
            last += 1
        score = probability[step, piece, 1 + kind] / scale[step, piece]
        for inner in range(step + 1, last + 1):
            score *= probability[inner, piece, 1 + types + kind] / scale[inner, piece]
        score *= after[last, piece]
        head = int(heads[piece])
        found.append((head + int(step), head + int(last), kind, float(min(score, 1.0))))
    return found


def _forward(probability: Float, goes_on: npt.NDArray[np.bool_]) -> Float:
    """What the mass of legal prefixes shrinks by at each step (forward pass, scaled to 1).

    *Shape:* (steps, pieces, tags) -> (steps, pieces).
    """
    steps, pieces, tags = probability.shape
    types = (tags - 1) // 2
    scale = np.empty((steps, pieces))
    entity = np.zeros((pieces, types))  # mass in B-x or I-x at the step before
    outside = np.ones(pieces)
    for step in range(steps):
        now = np.empty((pieces, tags))
        now[:, 0] = np.where(goes_on[step], outside, 1.0)
        now[:, 1 : 1 + types] = ~goes_on[step][:, None]
        now[:, 1 + types :] = entity
        now *= probability[step]
        total = now.sum(axis=1)
        # A dead end (a word piece that no legal tag fits) leaves the piece outside.
        dead = total <= 0
        now[dead] = np.eye(tags)[0]
        scale[step] = np.where(dead, 1.0, total)
        now /= np.where(dead, 1.0, total)[:, None]
        entity = now[:, 1 : 1 + types] + now[:, 1 + types :]
        outside = now[:, 0]
    return scale


def _after_span(probability: Float, goes_on: npt.NDArray[np.bool_], scale: Float) -> Float:
    """Scaled mass of all ways to go on after a span that ends here. *Shape:* (steps, pieces)."""
    steps, pieces, tags = probability.shape
    types = (tags - 1) // 2
    after = np.ones((steps, pieces))
    backward = np.ones((pieces, tags))
    for step in range(steps - 1, 0, -1):
        weighted = probability[step] * backward / scale[step][:, None]
        restart = np.where(goes_on[step], 0.0, weighted[:, : 1 + types].sum(axis=1))
        after[step - 1] = restart
        backward = np.empty((pieces, tags))
        backward[:, 0] = np.where(goes_on[step], weighted[:, 0], restart)
        backward[:, 1 : 1 + types] = backward[:, 1 + types :] = restart[:, None] + weighted[:, 1 + types :]
    return after


def _best_path(probability: Float, goes_on: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The most probable legal tags (Viterbi). *Shape:* (steps, pieces)."""
    steps, pieces, tags = probability.shape
    types = (tags - 1) // 2
    logs = np.log(np.maximum(probability, 1e-300))
    came_from = np.zeros((steps, pieces, tags), dtype=np.int16)
    rows = np.arange(pieces)
    best = np.full((pieces, tags), -np.inf)
    best[:, 0] = 0.0
    for step in range(steps):
        any_tag = best.argmax(axis=1)
        any_score = best[rows, any_tag]
        score = np.empty((pieces, tags))
        score[:, 0] = np.where(goes_on[step], best[:, 0], any_score)
        came_from[step, :, 0] = np.where(goes_on[step], 0, any_tag)
        score[:, 1 : 1 + types] = np.where(goes_on[step], -np.inf, any_score)[:, None]
        came_from[step, :, 1 : 1 + types] = any_tag[:, None]
        begun, inner = best[:, 1 : 1 + types], best[:, 1 + types :]
        score[:, 1 + types :] = np.maximum(begun, inner)
        came_from[step, :, 1 + types :] = np.where(
            begun >= inner, np.arange(1, 1 + types), np.arange(1 + types, tags)
        )
        best = score + logs[step]
    path = np.empty((steps, pieces), dtype=np.int64)
    path[-1] = best.argmax(axis=1)
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came_from[step][rows, path[step]]
    return path
