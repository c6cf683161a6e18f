"""The last stage: token spans and label logits become results in the caller's unit."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from serving import document_head
from serving.decode import TokenSpan
from serving.document_head import LabelSet
from serving.offsets import OffsetMap
from serving.results import Coverage, Document, Entity, Evidence, Field, Label, Options
from serving.sentences import sentences
from serving.tokens import FIELDS, TokenStream

SCORE_DECIMALS = 3
_EVIDENCE_SENTENCES = 3
_EVIDENCE_SHARE = 0.1


def coverage(stream: TokenStream, windows: int) -> Coverage:
    """Every token was read, so nothing is ever truncated."""
    return Coverage(tokens=len(stream), windows=windows)


def entities(
    document: Document,
    stream: TokenStream,
    spans: Sequence[TokenSpan],
    types: Sequence[str],
    options: Options,
) -> tuple[Entity, ...]:
    """Spans as entities, sorted by field and position; `min_score` only filters."""
    offset = _offset_maps(document, options)
    found: list[Entity] = []
    reached: dict[Field, int] = {"title": 0, "text": 0}
    for span in spans:
        field = FIELDS[stream.fields[span.first]]
        # Two tokens may share a character (decomposed Hangul); a span never does.
        start = max(int(stream.starts[span.first]), reached[field])
        end = int(stream.ends[span.last])
        if start >= end or (options.min_score or 0.0) > round(span.score, SCORE_DECIMALS):
            continue
        reached[field] = end
        found.append(
            Entity(
                type=types[span.type],
                start=offset[field](start),
                end=offset[field](end),
                text=_field_text(document, field)[start:end],
                score=round(span.score, SCORE_DECIMALS),
                field=field,
            )
        )
    return tuple(found)


def labels(logits: npt.NDArray[np.float64], label_set: LabelSet, options: Options) -> tuple[Label, ...]:
    """The labels that hold (or all that are asked for), best first. *Shape:* logits (labels,)."""
    scores = document_head.probabilities(logits, label_set.temperature).round(SCORE_DECIMALS)
    if options.all_labels:
        return _ranked(np.argsort(-scores, kind="stable"), scores, label_set)
    thresholds: Sequence[float] = label_set.thresholds
    if options.min_score is not None:
        thresholds = [options.min_score] * len(label_set.names)
    return _ranked(document_head.choose(scores, thresholds, label_set.exclusive()), scores, label_set)


def _ranked(order: Iterable[int], scores: npt.NDArray[np.float64], label_set: LabelSet) -> tuple[Label, ...]:
    return tuple(Label(label_set.names[i], label_set.axes[i], float(scores[i])) for i in order)


class SentenceEvidence:
    """The sentences of one document, ready to be asked which speak most for a label."""

    def __init__(self, document: Document, stream: TokenStream, options: Options) -> None:
        self._offset = _offset_maps(document, options)
        self._sentences: list[tuple[Field, int, int]] = []
        self._sentence_of = np.zeros(len(stream), dtype=np.int64)
        for number, field in enumerate(FIELDS):
            tokens = np.flatnonzero(stream.fields == number)
            bounds = sentences(_field_text(document, field))
            starts = np.array([start for start, _ in bounds])
            nth = np.searchsorted(starts, stream.starts[tokens], side="right") - 1
            self._sentence_of[tokens] = len(self._sentences) + np.maximum(nth, 0)
            self._sentences += [(field, start, end) for start, end in bounds]

    def __call__(
        self, weights: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
    ) -> tuple[Evidence, ...]:
        """The best sentences for the label with these columns. *Shape:* (tokens,) both."""
        shares = document_head.sentence_shares(weights, values.astype(np.float64), self._sentence_of)
        order = np.argsort(-shares, kind="stable")[:_EVIDENCE_SENTENCES]
        return tuple(
            self._evidence(i, float(shares[i]))
            for n, i in enumerate(order)
            if n == 0 or shares[i] >= _EVIDENCE_SHARE
        )

    def _evidence(self, sentence: int, share: float) -> Evidence:
        field, start, end = self._sentences[sentence]
        offset = self._offset[field]
        return Evidence(offset(start), offset(end), round(share, SCORE_DECIMALS), field)


def _offset_maps(document: Document, options: Options) -> dict[Field, OffsetMap]:
    return {field: OffsetMap(_field_text(document, field), options.offset_unit) for field in FIELDS}


def _field_text(document: Document, field: Field) -> str:
    return document.text if field == "text" else document.title or ""
