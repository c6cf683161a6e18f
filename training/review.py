"""Which documents of a scored corpus a person should look at next, with what the model found in them."""

import hashlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving import document_head
from serving.document_head import LabelSet
from serving.errors import CorpusError
from serving.model_folder import ModelFolder
from training.corpus import AnnotatedDocument, Span
from training.doubt import Float, doubt, standing
from training.duplicates import NearDuplicates
from training.scored import ScoredDocument, read_scored
from training.vectors import vectors

_CANDIDATES = 10
"""Of so many doubtful documents for each that is wanted, those that differ most are taken."""
_MOST_AT_ONCE = 10_000
"""Candidates in memory, unless more are wanted: each is held with its text and its vector."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A document with the model's annotation, to be corrected."""

    document: AnnotatedDocument
    doubt: float
    """Rank of the model's doubt in the whole corpus, 0 to 1."""


def pull_review(
    paths: Sequence[Path], count: int, model: ModelFolder, known: Iterable[AnnotatedDocument] = ()
) -> list[Suggestion]:
    """At most `count` documents, the most needed first: doubtful, unlike each other, no story twice.

    `known` documents and copies of them are left out. A few bytes a document are held, and the texts of
    the candidates. The corpus is read twice, and once more whenever too many candidates were copies.
    Raises CorpusError if another model scored it.
    """
    labels = model.config.label_set()
    seen, texts = NearDuplicates(), set()
    for document in known:
        seen.add(document.text)
        texts.add(_digest(document.text))
    doubts, is_candidate = _survey(paths, model, labels, texts)
    numbers = np.flatnonzero(is_candidate)
    order = numbers[np.argsort(-doubts[numbers], kind="stable")]
    chosen: list[ScoredDocument] = []
    doubt_of_chosen: list[float] = []
    begin, size = 0, _CANDIDATES * count
    while len(chosen) < count and begin < len(order):
        part = order[begin : begin + size]
        candidates = [*chosen, *_at(paths, part.tolist())]
        doubt_of_candidates = np.concatenate([doubt_of_chosen, doubts[part]])
        taken = pick(candidates, doubt_of_candidates, count, seen, taken=len(chosen))
        chosen = [candidates[at] for at in taken]
        doubt_of_chosen = doubt_of_candidates[taken].tolist()
        # Twice as many each time, so that an archive of copies is not read again for every few of them.
        begin, size = begin + size, max(size, min(2 * size, _MOST_AT_ONCE))
    return [
        Suggestion(annotated(scored, labels), doubtful)
        for scored, doubtful in zip(chosen, doubt_of_chosen, strict=True)
    ]


def pick(
    candidates: Sequence[ScoredDocument], doubts: Float, count: int, seen: NearDuplicates, taken: int = 0
) -> list[int]:
    """Numbers of the candidates to take, by greedy k-center: each next one has the largest product
    of its doubt and its distance to the nearest that was taken. *Shape:* doubts (candidates,).

    The first `taken` candidates are taken already. Copies of what was `seen` are passed over; what is
    looked at is added to it.
    """
    rows = vectors(candidates)
    chosen = list(range(taken))
    distance = np.clip(1.0 - rows @ rows[:taken].T, 0.0, 1.0).min(axis=1, initial=1.0)
    is_left = np.arange(len(candidates)) >= taken
    while len(chosen) < count and is_left.any():
        at = int(np.argmax(np.where(is_left, doubts * distance, -1.0)))
        is_left[at] = False
        if not seen.add(candidates[at].document.text):
            chosen.append(at)
            distance = np.minimum(distance, np.clip(1.0 - rows @ rows[at], 0.0, 1.0))
    return chosen


def annotated(scored: ScoredDocument, labels: LabelSet) -> AnnotatedDocument:
    """With the model's spans, and the labels that hold by its own thresholds, whatever the run asked for."""
    spans: dict[str, list[Span]] = {"text": [], "title": []}
    for entity in scored.entities:
        spans[entity.field].append(Span(entity.start, entity.end, entity.type))
    return AnnotatedDocument(
        id=str(scored.document.id),
        text=scored.document.text,
        entities=tuple(sorted(spans["text"])),
        cats=None if scored.labels is None else _held(scored, labels),
        title=scored.document.title,
        title_entities=tuple(sorted(spans["title"])),
        published_at=scored.published_at,
    )


def _held(scored: ScoredDocument, labels: LabelSet) -> tuple[str, ...]:
    given = {label.label: label.score for label in scored.labels or ()}
    scores = np.array([given.get(name, 0.0) for name in labels.names])
    return tuple(
        labels.names[at] for at in document_head.choose(scores, labels.thresholds, labels.exclusive())
    )


def _survey(
    paths: Sequence[Path], model: ModelFolder, labels: LabelSet, known: Collection[int]
) -> tuple[Float, Flags]:
    """Of each document: its doubt, and whether it is the first with its text and that text is not
    `known` by its digest. *Shape:* (documents,) both.
    """
    thresholds = dict(zip(labels.names, labels.thresholds, strict=True))
    of_spans, of_labels, texts = array("d"), array("d"), array("Q")
    for scored in _all(paths):
        if scored.model_sha256 != model.sha256:
            raise CorpusError(
                f"{scored.source} was scored by the model {scored.model_sha256[:12]}…, {model.path} is "
                f"{model.sha256[:12]}…; name the model that scored it by --model, or score the corpus again."
            )
        measured = doubt(scored, thresholds)
        of_spans.append(measured.spans)
        of_labels.append(measured.labels)
        texts.append(_digest(scored.document.text))
    digests = np.asarray(texts)
    is_candidate = np.zeros(len(digests), dtype=bool)
    is_candidate[np.unique(digests, return_index=True)[1]] = True
    is_candidate &= ~np.isin(digests, np.array([*known], dtype=digests.dtype))
    return (standing(of_spans) + standing(of_labels)) / 2, is_candidate


def _digest(text: str) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _at(paths: Sequence[Path], numbers: Sequence[int]) -> list[ScoredDocument]:
    """Documents of the corpus by their numbers, in the order of these."""
    wanted = set(numbers)
    found = {at: scored for at, scored in enumerate(_all(paths)) if at in wanted}
    return [found[at] for at in numbers]


def _all(paths: Sequence[Path]) -> Iterator[ScoredDocument]:
    for path in paths:
        yield from read_scored(path)
