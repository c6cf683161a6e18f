"""Train every baseline on a corpus and write what each says of other documents."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from training.baselines.lookup import predict_lookup
from training.baselines.spacy_pipeline import predict_spacy, train_spacy
from training.baselines.tfidf import predict_tfidf
from training.corpus import AnnotatedDocument, read_corpus
from training.data import TrainingData
from training.predictions import Prediction, predictions_file, write_predictions
from training.schema import Schema

Predict = Callable[[Sequence[AnnotatedDocument]], list[Prediction]]


def run_baselines(
    data: TrainingData,
    measured: Sequence[Path],
    schema: Schema,
    folder: Path,
    *,
    seed: int,
    spacy_steps: int,
    say: Callable[[str], None],
) -> None:
    """Write `folder`/NAME/HASH.jsonl, the hash being that of the file that was read."""
    logging.getLogger("spacy").setLevel(logging.WARNING)

    def spacy_pipeline(documents: Sequence[AnnotatedDocument]) -> list[Prediction]:
        model = folder / "spacy-cnn"
        if not (model / "model-best").is_dir():
            train_spacy(data.train, data.dev, model, seed=seed, max_steps=spacy_steps)
        return predict_spacy(model, documents, schema)

    baselines: Mapping[str, Predict] = {
        "lookup": lambda documents: predict_lookup(data.train, documents),
        "tfidf": lambda documents: predict_tfidf(data.train, documents, schema, seed),
        "spacy-cnn": spacy_pipeline,
    }
    files = {file: list(read_corpus(file)) for file in measured}
    for name, predict in baselines.items():
        for file, documents in files.items():
            say(f"{name} reads {file}")
            write_predictions(predictions_file(folder / name, file), predict(documents))
