"""The same documents in other dress: in one case, headline apart, inside a long report.

A reader that understands what it reads should lose little. `embargo stress` says how much.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from serving.analyzer import Analyzer
from training.corpus import AnnotatedDocument, Span
from training.evaluate import evaluate, read
from training.evaluation import Evaluation
from training.headlines import split_headline
from training.schema import Schema

_GAP = "\n\n"
_LONG_WORDS = 5000


def stress(
    analyzer: Analyzer, documents: Sequence[AnnotatedDocument], schema: Schema
) -> dict[str, Evaluation]:
    """Evaluations by dress. Thresholds are the model's own, so that all rows are judged alike."""
    dresses = {
        "as they are": list(documents),
        "ALL CAPITALS": [in_case(document, upper=True) for document in documents],
        "all lower case": [in_case(document, upper=False) for document in documents],
        "headline apart": [split_headline(document) for document in documents],
        f"in reports of {_LONG_WORDS:,} words": list(in_long_reports(documents, schema, _LONG_WORDS)),
    }
    return {
        name: evaluate(analyzer, read(analyzer, shown, schema), schema, cross_fit=False)
        for name, shown in dresses.items()
    }


def in_case(document: AnnotatedDocument, *, upper: bool) -> AnnotatedDocument:
    """The document in one case. A letter whose other case is not one character stays."""

    def changed(text: str) -> str:
        letters = ((c.upper() if upper else c.lower(), c) for c in text)
        return "".join(other if len(other) == 1 else c for other, c in letters)

    title = None if document.title is None else changed(document.title)
    return replace(document, text=changed(document.text), title=title)


def in_long_reports(
    documents: Sequence[AnnotatedDocument], schema: Schema, words: int, seed: int = 13
) -> Iterator[AnnotatedDocument]:
    """Each document with a label among neutral ones, those of the relevance axis, at a random place.

    A report keeps the labels of the document that it holds; its spans are those of all its parts.
    """
    relevance = set(schema.labels_of("relevance"))
    neutral = [d for d in documents if d.cats and set(d.cats) <= relevance]
    random = np.random.default_rng(seed)
    for document in documents:
        if not document.cats or set(document.cats) <= relevance or not neutral:
            continue
        parts = [document]
        while sum(len(part.text.split()) for part in parts) < words:
            parts.append(neutral[random.integers(len(neutral))])
        order = random.permutation(len(parts))
        yield replace(joined([parts[i] for i in order]), id=f"{document.id}-long", cats=document.cats)


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


def losses(results: Mapping[str, Evaluation]) -> dict[str, tuple[float, float]]:
    """Span micro-F1 and label micro-F1 of each dress, less those of the documents as they are.

    Label figures of long reports are compared with the same documents alone.
    """
    plain = results["as they are"]
    found = {}
    for name, result in results.items():
        ids = {document.id.removesuffix("-long") for document in result.label_documents}
        rows = [i for i, document in enumerate(plain.label_documents) if document.id in ids]
        alone = replace(
            plain,
            gold_labels=[plain.gold_labels[i] for i in rows],
            predicted_labels=[plain.predicted_labels[i] for i in rows],
        )
        found[name] = (
            result.spans.micro.f1 - plain.spans.micro.f1,
            result.labels.micro.f1 - alone.labels.micro.f1,
        )
    return found
