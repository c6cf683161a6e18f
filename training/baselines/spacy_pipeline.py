"""spaCy's CNN pipeline for CPUs, set up as its own quickstart does: `ner` and `textcat_multilabel`."""

import math
from collections.abc import Sequence
from pathlib import Path

import spacy
from spacy.cli.init_config import init_config
from spacy.cli.train import train as spacy_train

from training.corpus import AnnotatedDocument
from training.formats import FORMATS, Losses
from training.formats.spacy_docbin import split_spans, with_title
from training.predictions import Prediction
from training.schema import Schema

_LABELS = "textcat_multilabel"
_SURE = 1e-6


def train_spacy(
    train: Sequence[AnnotatedDocument],
    dev: Sequence[AnnotatedDocument],
    folder: Path,
    *,
    seed: int,
    max_steps: int,
) -> None:
    """Train until dev no longer gains, at most `max_steps` batches, into `folder`/model-best.

    Without labels in training only `ner` is trained: a `textcat_multilabel` refuses to know none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, documents in (("train", train), ("dev", dev)):
        FORMATS["spacy"].write(documents, folder / f"{name}.spacy", Losses())
    pipeline = ["ner", *([_LABELS] if any(document.cats for document in train) else [])]
    config = init_config(lang="en", pipeline=pipeline, optimize="efficiency", gpu=False)
    config.to_disk(folder / "config.cfg")
    overrides = {
        "paths.train": str(folder / "train.spacy"),
        "paths.dev": str(folder / "dev.spacy"),
        "system.seed": seed,
        "training.max_steps": max_steps,
    }
    spacy_train(folder / "config.cfg", folder, overrides=overrides)


def predict_spacy(folder: Path, documents: Sequence[AnnotatedDocument], schema: Schema) -> list[Prediction]:
    """Read documents with the best model of `folder`."""
    pipeline = spacy.load(folder / "model-best")
    predictions = []
    for document, doc in zip(documents, pipeline.pipe(map(with_title, documents)), strict=True):
        title_entities, entities = split_spans(doc, document.title)
        logits = None
        if pipeline.has_pipe(_LABELS):
            scores = [min(max(doc.cats.get(name, 0.0), _SURE), 1 - _SURE) for name in schema.labels]
            logits = tuple(math.log(score / (1 - score)) for score in scores)
        predictions.append(Prediction(document.id, entities, title_entities, logits=logits))
    return predictions
