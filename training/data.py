"""What a run learns from: documents by role, and what is shown in each epoch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import orjson

from serving.tokens import Tokenizer, TokenStream
from training.augment import Augmenter
from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.examples import Batcher, Example, encode, in_one_case, tagged_example
from training.gazetteer import Gazetteer, names_of_several
from training.schema import Schema


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run learns from and is chosen by."""

    train: Sequence[AnnotatedDocument]
    dev: Sequence[AnnotatedDocument]
    partial: Sequence[AnnotatedDocument] = ()
    """Documents of corpora that annotate only some span types, and no labels."""
    gazetteer: Gazetteer | None = None
    """Names to show in the place of others; None: those of other training documents."""

    def fingerprint(self) -> str:
        """SHA-256 over all documents and their roles, to tell one run from another."""
        digest = hashlib.sha256()
        for role, documents in (("train", self.train), ("dev", self.dev), ("partial", self.partial)):
            digest.update(role.encode())
            for document in documents:
                digest.update(document.to_json())
                known = document.known_types
                digest.update(b"*" if known is None else ",".join(sorted(known)).encode())
        if self.gazetteer:
            digest.update(orjson.dumps(self.gazetteer.groups, option=orjson.OPT_SORT_KEYS))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The documents of an epoch, the case each is shown in (None: its own), and the batches."""

    epoch: int
    rows: datasets.Dataset
    cases: Sequence[str | None]
    groups: list[list[int]]


class Epochs:
    """What is shown in each epoch. The seed decides it, also after a resume."""

    def __init__(
        self, data: TrainingData, tokenizer: Tokenizer, schema: Schema, batcher: Batcher, config: TrainConfig
    ) -> None:
        self.train = encode(data.train, tokenizer, schema)
        self._partial = encode(data.partial, tokenizer, schema)
        well_known = names_of_several(data.train)
        gazetteer = data.gazetteer or Gazetteer.of(data.train, config.name_types, well_known)
        self._augment = Augmenter(config, gazetteer, well_known)
        self._tokenizer, self._schema = tokenizer, schema
        self._batcher, self._config = batcher, config

    def plan(self, epoch: int) -> EpochPlan:
        """Which documents an epoch shows, and in which order."""
        config, partial = self._config, self._partial.rows
        random = np.random.default_rng([config.seed, epoch])
        rows = self.train.rows
        if len(partial) and epoch < config.partial_epochs:
            count = min(config.partial_documents, len(partial))
            drawn = partial.shuffle(generator=random).select(range(count))
            rows = datasets.concatenate_datasets([rows, drawn])
        lower, upper = config.lower_case_share, config.upper_case_share
        drawn_cases = random.choice(3, len(rows), p=[1 - lower - upper, lower, upper])
        cases = [(None, "lower", "upper")[case] for case in drawn_cases]
        return EpochPlan(epoch, rows, cases, self._batcher.groups(np.array(rows["length"]), random))

    def examples(self, plan: EpochPlan, group: int) -> list[Example]:
        """The documents of one batch as they are shown."""
        shown = []
        for row in plan.groups[group]:
            example, case = self._example(plan, row), plan.cases[row]
            shown.append(in_one_case(example, case) if case else example)
        return shown

    def _example(self, plan: EpochPlan, row: int) -> Example:
        if row < len(self.train.documents):
            document = self.train.documents[row]
            random = np.random.default_rng([self._config.seed, plan.epoch, row])
            changed = self._augment(document, random)
            if changed is not document:
                (stream,) = self._tokenizer.encode([changed.document()])
                if isinstance(stream, TokenStream):
                    return tagged_example(changed, stream, self._schema)[0]
        return Example.from_row(plan.rows[row])
