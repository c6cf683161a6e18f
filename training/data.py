"""What a run learns from: documents by role, and what is shown in each epoch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np

from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.examples import Batcher, Example, in_one_case


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run learns from and is chosen by."""

    train: Sequence[AnnotatedDocument]
    dev: Sequence[AnnotatedDocument]
    partial: Sequence[AnnotatedDocument] = ()
    """Documents of corpora that annotate only some span types, and no labels."""

    def fingerprint(self) -> str:
        """SHA-256 over all documents and their roles, to tell one run from another."""
        digest = hashlib.sha256()
        for role, documents in (("train", self.train), ("dev", self.dev), ("partial", self.partial)):
            digest.update(role.encode())
            for document in documents:
                digest.update(document.to_json())
                digest.update(",".join(sorted(document.known_types or ())).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The documents of an epoch, the case each is shown in (None: its own), and the batches."""

    rows: datasets.Dataset
    cases: Sequence[str | None]
    groups: list[list[int]]

    def examples(self, group: int) -> list[Example]:
        """The documents of one batch as they are shown."""
        shown = []
        for row in self.groups[group]:
            example, case = Example.from_row(self.rows[row]), self.cases[row]
            shown.append(in_one_case(example, case) if case else example)
        return shown


def plan_epoch(
    epoch: int, train: datasets.Dataset, partial: datasets.Dataset, batcher: Batcher, config: TrainConfig
) -> EpochPlan:
    """What an epoch shows and in which order: the same for the same seed, also after a resume."""
    random = np.random.default_rng([config.seed, epoch])
    rows = train
    if len(partial) and epoch < config.partial_epochs:
        count = min(config.partial_documents, len(partial))
        drawn = partial.shuffle(generator=random).select(range(count))
        rows = datasets.concatenate_datasets([rows, drawn])
    lower, upper = config.lower_case_share, config.upper_case_share
    drawn_cases = random.choice(3, len(rows), p=[1 - lower - upper, lower, upper])
    cases = [(None, "lower", "upper")[case] for case in drawn_cases]
    return EpochPlan(rows, cases, batcher.groups(np.array(rows["length"]), random))
