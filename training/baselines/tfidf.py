"""Document labels from word counts: TF-IDF of words and word pairs, a logistic regression a label."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from training import calibrate
from training.corpus import AnnotatedDocument
from training.predictions import Prediction
from training.schema import Schema

_LOGIT_OF_NEVER = -20.0


def predict_tfidf(
    train: Sequence[AnnotatedDocument],
    documents: Sequence[AnnotatedDocument],
    schema: Schema,
    seed: int,
) -> list[Prediction]:
    """Labels alone; no spans. Settings are the usual ones, balanced for rare labels."""
    labelled = [document for document in train if document.cats is not None]
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, strip_accents="unicode", max_features=200_000
    )
    features = vectorizer.fit_transform(map(_text, labelled))
    wanted = vectorizer.transform(map(_text, documents))
    gold = calibrate.label_matrix(labelled, schema)
    logits = np.stack(
        [_logits(features, gold[:, k], wanted, seed) for k in range(len(schema.labels))], axis=1
    )
    return [
        Prediction(id=document.id, entities=(), logits=tuple(float(x) for x in row))
        for document, row in zip(documents, logits, strict=True)
    ]


def _logits(
    features: object, gold: npt.NDArray[np.float64], wanted: object, seed: int
) -> npt.NDArray[np.float64]:
    """*Shape:* (documents,). A label that never or always occurs cannot be fitted."""
    if gold.min() == gold.max():
        return np.full(wanted.shape[0], -_LOGIT_OF_NEVER if gold.max() else _LOGIT_OF_NEVER)  # type: ignore[attr-defined]
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000, random_state=seed)
    return np.asarray(model.fit(features, gold).decision_function(wanted), dtype=np.float64)


def _text(document: AnnotatedDocument) -> str:
    return f"{document.title or ''}\n{document.text}"
