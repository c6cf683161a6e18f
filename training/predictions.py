"""What some system says of documents, in the form that the reference scorer reads.

One JSON object a line: `{"id", "entities", "title_entities", "cats", "logits"}`. `cats` are
what the system says under thresholds of its own; `logits`, one number a label of the schema,
let its thresholds be cross-fitted where the model's are.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving.document_head import choose, probabilities
from serving.errors import CorpusError
from serving.model_folder import file_sha256
from training import calibrate
from training.corpus import AnnotatedDocument, Span
from training.evaluation import Evaluation, ScoresAndRight, span_keys
from training.formats.jsonl import read_rows, write_rows
from training.schema import Schema


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one document."""

    id: str
    entities: tuple[Span, ...]
    title_entities: tuple[Span, ...] = ()
    cats: tuple[str, ...] = ()
    logits: tuple[float, ...] | None = None
    """One a label, in the schema's order."""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a file that `read_predictions` and the reference scorer read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(
        path,
        (
            {
                "id": p.id,
                "entities": [[s.start, s.end, s.type] for s in p.entities],
                "title_entities": [[s.start, s.end, s.type] for s in p.title_entities],
                "cats": list(p.cats),
                "logits": p.logits,
            }
            for p in predictions
        ),
    )


def read_predictions(path: Path) -> dict[str, Prediction]:
    """By document id. Raises CorpusError where a line is no prediction."""
    found: dict[str, Prediction] = {}
    for where, row in read_rows(path):
        try:
            id_, logits = str(row["id"]), row.get("logits")
            if id_ in found:
                raise ValueError(f"a second prediction for {id_}")
            found[id_] = Prediction(
                id=id_,
                entities=_spans(row["entities"]),
                title_entities=_spans(row.get("title_entities") or []),
                cats=tuple(row.get("cats") or ()),
                logits=None if logits is None else tuple(map(float, logits)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{where}: not a prediction ({error!r}); expected "
                '{"id": "a1", "entities": [[0, 5, "PERSON"]], "cats": ["designation"]}.'
            ) from error
    return found


def predictions_file(system: Path, file: Path) -> Path:
    """Where a system's predictions of a file of documents are kept: by the file's hash."""
    return system / f"{file_sha256(file)[:16]}.jsonl"


def predictions_of(folder: Path, file: Path) -> dict[str, dict[str, Prediction]]:
    """What each system under `folder` said of a file: predictions by document, by system."""
    systems = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return {
        system.name: read_predictions(found)
        for system in systems
        if (found := predictions_file(system, file)).is_file()
    }


def evaluate_predictions(
    documents: Sequence[AnnotatedDocument],
    predictions: Mapping[str, Prediction],
    schema: Schema,
    *,
    cross_fit: bool,
) -> Evaluation:
    """Score them as the model is scored. A document without a prediction counts as empty.

    `cross_fit` is for dev sets, as in training/evaluate.py. Raises CorpusError where logits are
    not one a label.
    """
    found = [predictions.get(document.id, Prediction(document.id, ())) for document in documents]
    annotated = [i for i, document in enumerate(documents) if document.known_types is None]
    labelled = [i for i, document in enumerate(documents) if document.cats is not None]
    labels: list[set[tuple[Hashable, ...]]] = [{(name,) for name in found[i].cats} for i in labelled]
    label_scores = _NO_SCORES
    scored = [i for i in labelled if found[i].logits is not None]
    if cross_fit and scored:
        pair = [documents[i] for i in scored], [found[i] for i in scored]
        chosen, label_scores = _cross_fitted(*pair, schema)
        again = dict(zip(scored, chosen, strict=True))
        labels = [again.get(i, own) for i, own in zip(labelled, labels, strict=True)]
    return Evaluation(
        documents=len(documents),
        thresholds="cross-fitted" if len(label_scores[0]) else "its own",
        span_documents=[documents[i] for i in annotated],
        gold_spans=[set(span_keys(documents[i])) for i in annotated],
        predicted_spans=[set(span_keys(found[i])) for i in annotated],
        label_documents=[documents[i] for i in labelled],
        gold_labels=[{(name,) for name in documents[i].cats or ()} for i in labelled],
        predicted_labels=labels,
        span_scores=_NO_SCORES,
        label_scores=label_scores,
        unreachable_spans=0,
    )


_NO_SCORES: ScoresAndRight = (np.zeros(0), np.zeros(0))


def _cross_fitted(
    documents: Sequence[AnnotatedDocument], found: Sequence[Prediction], schema: Schema
) -> tuple[list[set[tuple[Hashable, ...]]], ScoresAndRight]:
    """Labels that hold, each document judged under thresholds fitted on others, and all scores."""
    names = list(schema.labels)
    gold = calibrate.label_matrix(documents, schema)
    fitted = calibrate.cross_fitted_labels(logit_matrix(found, schema), gold, exclusive_labels(schema))
    chosen: list[set[tuple[Hashable, ...]]] = [{(names[i],) for i in held} for held in fitted.chosen]
    return chosen, (fitted.scores.ravel(), gold.ravel())


def with_fitted_labels(
    predictions: Sequence[Prediction], calibration: calibrate.LabelCalibration, schema: Schema
) -> list[Prediction]:
    """The same predictions with the labels that hold under given thresholds."""
    names = list(schema.labels)
    scores = probabilities(logit_matrix(predictions, schema), calibration.temperature)
    held = [choose(row, calibration.thresholds, exclusive_labels(schema)) for row in scores]
    return [
        replace(p, cats=tuple(names[i] for i in chosen)) for p, chosen in zip(predictions, held, strict=True)
    ]


def logit_matrix(predictions: Sequence[Prediction], schema: Schema) -> npt.NDArray[np.float64]:
    """*Shape:* (predictions, labels). Raises CorpusError where logits are not one a label."""
    for prediction in predictions:
        if prediction.logits is None or len(prediction.logits) != len(schema.labels):
            raise CorpusError(
                f"the prediction of {prediction.id!r} has {len(prediction.logits or ())} logits; expected "
                f"{len(schema.labels)}, one a label of the schema. Let the system read the documents again."
            )
    return np.array([prediction.logits for prediction in predictions], dtype=np.float64)


def exclusive_labels(schema: Schema) -> list[int]:
    """Positions of the labels that stand alone."""
    names = list(schema.labels)
    return [names.index(name) for name in schema.labels_of("relevance")]


def _spans(rows: Iterable[Sequence[object]]) -> tuple[Span, ...]:
    return tuple(sorted(Span(int(str(a)), int(str(b)), str(kind)) for a, b, kind in rows))
