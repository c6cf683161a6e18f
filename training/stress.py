"""The same documents in other dress: in one case, headline apart, inside a long report.

A reader that understands what it reads should lose little. `embargo stress` says how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.analyzer import Analyzer
from training.corpus import AnnotatedDocument, Span
from training.evaluate import evaluate, read
from training.evaluation import Evaluation
from training.headlines import split_headline
from training.metrics import Scores, score
from training.schema import Schema

_GAP = "\n\n"
_LONG_WORDS = 5000


@dataclass(frozen=True, slots=True)
class Dressed:
    """Documents in one dress, and which documents they are made of."""

    documents: list[AnnotatedDocument]
    parts: list[str]
    """Ids of the documents whose spans they hold; one may stand there more than once."""


@dataclass(frozen=True, slots=True)
class Stress:
    """How well documents in one dress were read, and the same documents as they are."""

    result: Evaluation
    spans_as_they_are: Scores
    labels_as_they_are: Scores

    @property
    def span_change(self) -> float:
        """Of span micro-F1."""
        return self.result.spans.micro.f1 - self.spans_as_they_are.micro.f1

    @property
    def label_change(self) -> float:
        """Of label micro-F1."""
        return self.result.labels.micro.f1 - self.labels_as_they_are.micro.f1


def stress(analyzer: Analyzer, documents: Sequence[AnnotatedDocument], schema: Schema) -> dict[str, Stress]:
    """Results by dress, over the fully annotated documents.

    Thresholds are the model's own, so that all rows are judged alike.
    """
    whole = [d for d in documents if d.known_types is None and d.cats is not None]
    plain = _read(analyzer, whole, schema)
    row_of = {document.id: row for row, document in enumerate(whole)}
    found = {}
    for name, dressed in dresses(whole, schema).items():
        parts = [row_of[id_] for id_ in dressed.parts]
        labelled = [row_of[document.id] for document in dressed.documents]
        found[name] = Stress(
            _read(analyzer, dressed.documents, schema),
            score([plain.gold_spans[i] for i in parts], [plain.predicted_spans[i] for i in parts]),
            score([plain.gold_labels[i] for i in labelled], [plain.predicted_labels[i] for i in labelled]),
        )
    return found


def dresses(documents: Sequence[AnnotatedDocument], schema: Schema) -> dict[str, Dressed]:
    """The documents in every dress. Those that a dress does not change are left out of it."""
    shown = {
        "ALL CAPITALS": [in_case(document, upper=True) for document in documents],
        "all lower case": [in_case(document, upper=False) for document in documents],
        "headline apart": [split_headline(document) for document in documents],
        "headline in the text": [
            joined([document]) if document.title else document for document in documents
        ],
    }
    found = {}
    for name, changed in shown.items():
        rows = [new for old, new in zip(documents, changed, strict=True) if new != old]
        found[name] = Dressed(rows, [document.id for document in rows])
    found[f"in reports of {_LONG_WORDS:,} words"] = in_long_reports(documents, schema, _LONG_WORDS)
    return {name: dressed for name, dressed in found.items() if dressed.documents}


def _read(analyzer: Analyzer, documents: Sequence[AnnotatedDocument], schema: Schema) -> Evaluation:
    return evaluate(analyzer, read(analyzer, documents, schema), schema, cross_fit=False)


def in_case(document: AnnotatedDocument, *, upper: bool) -> AnnotatedDocument:
    """The document in one case. A letter whose other case is not one character stays."""

    def changed(text: str) -> str:
        letters = ((c.upper() if upper else c.lower(), c) for c in text)
        return "".join(other if len(other) == 1 else c for other, c in letters)

    title = None if document.title is None else changed(document.title)
    return replace(document, text=changed(document.text), title=title)


def in_long_reports(
    documents: Sequence[AnnotatedDocument], schema: Schema, words: int, seed: int = 13
) -> Dressed:
    """Each document with a label among neutral ones, those of the relevance axis, at a random place.

    A report keeps the id and the labels of the document that it holds; its spans are those of
    all its parts.
    """
    relevance = set(schema.labels_of("relevance"))
    neutral = [d for d in documents if d.cats and set(d.cats) <= relevance]
    random = np.random.default_rng(seed)
    found = Dressed([], [])
    for document in documents:
        if not document.cats or set(document.cats) <= relevance or not neutral:
            continue
        parts = [document]
        while sum(len(part.text.split()) for part in parts) < words:
            parts.append(neutral[random.integers(len(neutral))])
        report = joined([parts[i] for i in random.permutation(len(parts))])
        found.documents.append(replace(report, id=document.id, cats=document.cats))
        found.parts.extend(part.id for part in parts)
    return found


def joined(documents: Sequence[AnnotatedDocument]) -> AnnotatedDocument:
    """One document of several, titles and texts in a row, with all their spans."""
    text = ""
    spans: list[Span] = []
    for document in documents:
        for part, found in (
            (document.title or "", document.title_entities),
            (document.text, document.entities),
        ):
            if not part:
                continue
            text += _GAP if text else ""
            spans += [Span(len(text) + s.start, len(text) + s.end, s.type) for s in found]
            text += part
    return replace(documents[0], text=text, entities=tuple(spans), title=None, title_entities=())
