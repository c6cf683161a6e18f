"""What some system says of documents, in the form that the reference scorer reads.

One JSON object a line: `{"id", "entities", "title_entities", "cats", "logits"}`. With
`logits`, one number a label of the schema, labels are chosen under cross-fitted thresholds
as the model's own are; without, `cats` are taken as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.errors import CorpusError
from serving.model_folder import file_sha256
from training import calibrate
from training.corpus import AnnotatedDocument, Span
from training.evaluation import Evaluation, ScoresAndRight, span_keys
from training.formats.jsonl import read_rows, write_rows
from training.metrics import Keys
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
    found = {}
    for where, row in read_rows(path):
        try:
            logits = row.get("logits")
            found[str(row["id"])] = Prediction(
                id=str(row["id"]),
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
    documents: Sequence[AnnotatedDocument], predictions: Mapping[str, Prediction], schema: Schema
) -> Evaluation:
    """Score them as the model is scored. A document without a prediction counts as empty."""
    empty = Prediction("", ())
    found = [predictions.get(document.id, empty) for document in documents]
    annotated = [i for i, document in enumerate(documents) if document.known_types is None]
    labelled = [i for i, document in enumerate(documents) if document.cats is not None]
    gold: Keys = [set(span_keys(documents[i])) for i in annotated]
    got: Keys = [set(span_keys(found[i])) for i in annotated]
    labels, label_scores = _labels([documents[i] for i in labelled], [found[i] for i in labelled], schema)
    return Evaluation(
        documents=len(documents),
        thresholds="cross-fitted" if len(label_scores[0]) else "its own",
        span_documents=[documents[i] for i in annotated],
        gold_spans=gold,
        predicted_spans=got,
        label_documents=[documents[i] for i in labelled],
        gold_labels=[{(name,) for name in documents[i].cats or ()} for i in labelled],
        predicted_labels=labels,
        span_scores=_NO_SCORES,
        label_scores=label_scores,
        unreachable_spans=0,
    )


_NO_SCORES: ScoresAndRight = (np.zeros(0), np.zeros(0))


def _labels(
    documents: Sequence[AnnotatedDocument], found: Sequence[Prediction], schema: Schema
) -> tuple[Keys, ScoresAndRight]:
    """Labels that hold, and their scores where a system gives any."""
    names = list(schema.labels)
    logits = [prediction.logits for prediction in found]
    if not logits or any(row is None or len(row) != len(names) for row in logits):
        return [{(name,) for name in prediction.cats} for prediction in found], _NO_SCORES
    exclusive = [names.index(name) for name in schema.labels_of("relevance")]
    gold = calibrate.label_matrix(documents, schema)
    fitted = calibrate.cross_fitted_labels(np.array(logits, dtype=np.float64), gold, exclusive)
    chosen: Keys = [{(names[i],) for i in held} for held in fitted.chosen]
    return chosen, (fitted.scores.ravel(), gold.ravel())


def _spans(rows: Iterable[Sequence[object]]) -> tuple[Span, ...]:
    return tuple(sorted(Span(int(str(a)), int(str(b)), str(kind)) for a, b, kind in rows))
