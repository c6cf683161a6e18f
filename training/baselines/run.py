"""Train every baseline on a corpus and write what each says of other documents."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from training.baselines.lookup import predict_lookup
from training.baselines.spacy_pipeline import predict_spacy, train_spacy
from training.baselines.tfidf import predict_tfidf
from training.calibrate import fit_labels, label_matrix
from training.corpus import AnnotatedDocument, read_corpus
from training.data import TrainingData
from training.predictions import (
    Prediction,
    logit_matrix,
    predictions_file,
    with_fitted_labels,
    write_predictions,
)
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
    """Write `folder`/NAME/HASH.jsonl, the hash being that of the file that was read.

    Thresholds of labels are fitted on dev, as the model's are. Where no training document has labels,
    TF-IDF is left out.
    """
    logging.getLogger("spacy").setLevel(logging.WARNING)
    baselines: dict[str, Predict] = {"lookup": lambda documents: predict_lookup(data.train, documents)}
    if any(document.cats is not None for document in data.train):
        baselines["tfidf"] = lambda documents: predict_tfidf(data.train, documents, schema, seed)
    baselines["spacy-cnn"] = lambda documents: predict_spacy(folder / "spacy-cnn", documents, schema)
    _train_spacy_once(data, folder / "spacy-cnn", seed, spacy_steps)
    files = {file: list(read_corpus(file)) for file in measured}
    dev = [document for document in data.dev if document.cats is not None]
    for name, predict in baselines.items():
        calibration = None
        on_dev = predict(dev) if dev else []
        if on_dev and all(prediction.logits for prediction in on_dev):
            calibration = fit_labels(logit_matrix(on_dev, schema), label_matrix(dev, schema))
        for file, documents in files.items():
            say(f"{name} reads {file}")
            predictions = predict(documents)
            if calibration:
                predictions = with_fitted_labels(predictions, calibration, schema)
            write_predictions(predictions_file(folder / name, file), predictions)


def _train_spacy_once(data: TrainingData, folder: Path, seed: int, steps: int) -> None:
    """Train, unless the folder holds what this training gave before."""
    mark = folder / "trained-on.txt"
    wanted = f"{data.fingerprint()} seed {seed} steps {steps}\n"
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    train_spacy(data.train, data.dev, folder, seed=seed, max_steps=steps)
    mark.write_text(wanted, encoding="utf-8")
