"""What is in a corpus: counts, lengths, density, variety, and a picture of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from serving.sentences import sentences
from training.corpus import AnnotatedDocument

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_VOCABULARY_AT = 50_000
_SENTENCE_WORDS = 5


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of one split."""

    documents: int
    words: int
    median_words: int
    longest_words: int
    types: Counter[str]
    """Mentions by span type, titles included."""
    surfaces: Counter[str]
    """Different surfaces by span type, case ignored."""
    once: Mapping[str, float]
    """Share of a type's surfaces that occur in one document only."""
    labels: Counter[str]
    genres: Counter[str]
    words_per_mention: float
    distinct_2: float
    """Different word pairs over word pairs, in the first 50,000 words."""
    vocabulary: int
    """Different words in the first 50,000."""
    shared_sentences: int
    """Sentences of five words or more that stand in more than one document."""


def statistics(documents: Sequence[AnnotatedDocument]) -> Statistics:
    """Count a split."""
    lengths = [len(d.text.split()) for d in documents] or [0]
    types: Counter[str] = Counter()
    documents_of: dict[str, Counter[str]] = {}
    for document in documents:
        types.update(kind for kind, _ in document.mentions())
        seen = {(kind, surface.casefold()) for kind, surface in document.mentions()}
        for kind, surface in seen:
            documents_of.setdefault(kind, Counter())[surface] += 1
    words = [w.casefold() for d in documents for w in _WORD.findall(d.text)][:_VOCABULARY_AT]
    return Statistics(
        documents=len(documents),
        words=sum(lengths),
        median_words=int(np.median(lengths)),
        longest_words=max(lengths),
        types=types,
        surfaces=Counter({kind: len(found) for kind, found in documents_of.items()}),
        once={k: sum(n == 1 for n in found.values()) / len(found) for k, found in documents_of.items()},
        labels=Counter(label for d in documents for label in d.cats or ()),
        genres=Counter(d.genre for d in documents),
        words_per_mention=sum(lengths) / max(1, types.total()),
        distinct_2=len(set(pairwise(words))) / max(1, len(words) - 1),
        vocabulary=len(set(words)),
        shared_sentences=len(shared_sentences(documents)),
    )


def shared_sentences(documents: Sequence[AnnotatedDocument]) -> dict[str, list[str]]:
    """Sentences of five words or more that stand in several documents, and the documents' ids."""
    ids: dict[str, list[str]] = {}
    for document in documents:
        found = (_WORD.findall(document.text[a:b].casefold()) for a, b in sentences(document.text))
        for sentence in {" ".join(words) for words in found if len(words) >= _SENTENCE_WORDS}:
            ids.setdefault(sentence, []).append(document.id)
    return {sentence: found for sentence, found in ids.items() if len(found) > 1}


def plot(splits: Mapping[str, Sequence[AnnotatedDocument]], path: Path) -> None:
    """Mentions by type, lengths, labels, and which labels occur together, over all splits."""
    from matplotlib.figure import Figure

    documents = [d for split in splits.values() for d in split]
    counted = statistics(documents)
    figure = Figure(figsize=(13, 10), layout="constrained")
    (types, lengths), (labels, together) = figure.subplots(2, 2)
    for axis, counts, title in ((types, counted.types, "mentions"), (labels, counted.labels, "documents")):
        rows = counts.most_common()[::-1]
        axis.barh([name for name, _ in rows], [n for _, n in rows], color="#2f6f8f")
        axis.set_title(f"{title} by {'span type' if axis is types else 'label'}", fontsize=10)
        axis.tick_params(labelsize=8)
    lengths.hist([len(d.text.split()) for d in documents], bins=40, color="#2f6f8f")
    lengths.set_title("words a document", fontsize=10)
    names = [name for name, _ in counted.labels.most_common()]
    matrix = np.array([[sum({a, b} <= set(d.cats or ()) for d in documents) for b in names] for a in names])
    together.imshow(np.log1p(matrix), cmap="Blues")
    together.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    together.set_yticks(range(len(names)), names, fontsize=7)
    for (row, column), value in np.ndenumerate(matrix):
        together.text(column, row, str(value) if value else "", ha="center", va="center", fontsize=6)
    together.set_title("labels together in a document", fontsize=10)
    figure.savefig(path, dpi=110)
