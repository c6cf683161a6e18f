"""The formats by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.model_folder import ModelFolder
from training.corpus import AnnotatedDocument
from training.formats import conll, doccano, hugging_face, label_studio, prodigy, spacy_docbin
from training.formats.losses import Losses
from training.review import Suggestion

Read = Callable[[Path, Losses], Iterator[AnnotatedDocument]]
Write = Callable[[Iterable[AnnotatedDocument], Path, Losses], None]
WriteReview = Callable[[Iterable[Suggestion], Path, ModelFolder], list[Path]]


@dataclass(frozen=True, slots=True)
class Format:
    """How to read and write one format; `about` says what tool it is of and what it can hold."""

    read: Read
    write: Write
    about: str


FORMATS = {
    "doccano": Format(
        doccano.read, doccano.write, "doccano JSONL, sequence labelling with or without labels"
    ),
    "prodigy": Format(prodigy.read, prodigy.write, "Prodigy JSONL, spans and accepted options"),
    "label-studio": Format(label_studio.read, label_studio.write, "Label Studio JSON, UTF-16 offsets"),
    "conll": Format(conll.read, conll.write, "CoNLL-2003 columns with IOB2 tags; spacing is lost"),
    "hugging-face": Format(hugging_face.read, hugging_face.write, "a folder of `datasets.save_to_disk`"),
    "spacy": Format(
        spacy_docbin.read, spacy_docbin.write, "spaCy DocBin for `spacy train`; spans widened to its tokens"
    ),
}

REVIEWS: dict[str, WriteReview] = {
    "label-studio": label_studio.write_review,
    "doccano": doccano.write_review,
}
"""What writes suggestions for a person to correct, and the lists of names that the tool wants; both by
format. It returns the files it made."""
