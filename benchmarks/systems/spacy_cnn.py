"""spaCy's CNN pipeline, what people pick for speed on a CPU; trained on the same corpora."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import spacy
from spacy.tokens import Doc

from benchmarks.protocol import Choice, Given
from serving.model_folder import ModelFolder
from serving.results import Analysis, Document, Entity, Field, Label
from training.corpus import AnnotatedDocument
from training.formats.spacy_docbin import split_spans, with_title

_HELD = 0.5
"""spaCy's own threshold; cross-fitted ones are judged by the logits."""
_SURE = 1e-6


class SpacyCnn:
    """`nlp.pipe` with spaCy's defaults in one process, or in as many as the budget has threads."""

    packages = ("spacy", "thinc", "numpy")

    def __init__(self, pipeline: str) -> None:
        self._folder = Path(pipeline)

    def choices(self, threads: int) -> Sequence[Choice]:
        """Processes."""
        return [{"processes": processes} for processes in sorted({1, threads})]

    def load(self, given: Given, choice: Choice) -> None:
        """The trained pipeline, and the order of labels that the report wants."""
        self._processes = int(choice["processes"])
        self._pipeline = spacy.load(self._folder)
        labels = ModelFolder.open(given.model, verify=False).config.label_set()
        self._axes = dict(zip(labels.names, labels.axes, strict=True))

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """spaCy gives no score to an entity."""
        return [self._analysis(d, doc) for d, doc in zip(documents, self._docs(documents), strict=True)]

    def label_logits(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """*Shape:* (documents, labels)."""
        scores = np.array([[doc.cats.get(name, 0.0) for name in self._axes] for doc in self._docs(documents)])
        scores = scores.clip(_SURE, 1 - _SURE)
        return np.asarray(np.log(scores / (1 - scores)), dtype=np.float64)

    def _docs(self, documents: Sequence[Document]) -> list[Doc]:
        texts = [with_title(_annotated(document)) for document in documents]
        return list(self._pipeline.pipe(texts, n_process=self._processes))

    def _analysis(self, document: Document, doc: Doc) -> Analysis:
        title, text = split_spans(doc, document.title)
        fields: tuple[tuple[Field, str], ...] = (("title", document.title or ""), ("text", document.text))
        entities = [
            Entity(s.type, s.start, s.end, content[s.start : s.end], math.nan, field)
            for (field, content), spans in zip(fields, (title, text), strict=True)
            for s in spans
        ]
        held = sorted(((score, name) for name, score in doc.cats.items() if score >= _HELD), reverse=True)
        labels = [Label(name, self._axes.get(name, ""), score) for score, name in held]
        return Analysis(id=document.id, labels=tuple(labels), entities=tuple(entities))


def _annotated(document: Document) -> AnnotatedDocument:
    return AnnotatedDocument(str(document.id), document.text, (), None, title=document.title)
