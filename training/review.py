"""Which documents of a scored corpus a person should look at next, with what the model found in them."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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

    `known` documents and copies of them are left out. The corpus is read twice; a few bytes a
    document are held, and the texts of the candidates. Raises CorpusError if another model scored it.
    """
    labels = model.config.label_set()
    doubts, is_first = _survey(paths, model, labels)
    numbers = np.flatnonzero(is_first)
    order = numbers[np.argsort(-doubts[numbers], kind="stable")][: _CANDIDATES * count]
    wanted = set(order.tolist())
    found = {at: scored for at, scored in enumerate(_all(paths)) if at in wanted}
    candidates = [found[at] for at in order.tolist()]
    chosen = pick(candidates, doubts[order], count, known)
    return [Suggestion(annotated(candidates[at], labels), float(doubts[order[at]])) for at in chosen]


def pick(
    candidates: Sequence[ScoredDocument],
    doubts: Float,
    count: int,
    known: Iterable[AnnotatedDocument] = (),
) -> list[int]:
    """Numbers of the candidates to take, by greedy k-center: each next one has the largest product
    of its doubt and its distance to the nearest that was taken. *Shape:* doubts (candidates,).
    """
    seen = NearDuplicates()
    for document in known:
        seen.add(document.text)
    rows = vectors(candidates)
    distance = np.ones(len(candidates))
    is_left = np.ones(len(candidates), dtype=bool)
    chosen: list[int] = []
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


def _survey(paths: Sequence[Path], model: ModelFolder, labels: LabelSet) -> tuple[Float, Float]:
    """Of each document: its doubt, and if it is the first with its text. *Shape:* (documents,) both."""
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
        digest = hashlib.blake2b(scored.document.text.encode(), digest_size=8).digest()
        texts.append(int.from_bytes(digest))
    is_first = np.zeros(len(texts), dtype=bool)
    is_first[np.unique(np.asarray(texts), return_index=True)[1]] = True
    return (standing(of_spans) + standing(of_labels)) / 2, is_first


def _all(paths: Sequence[Path]) -> Iterator[ScoredDocument]:
    for path in paths:
        yield from read_scored(path)
