"""What a run learns from: documents by role, and what is shown in each epoch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import datasets
import numpy as np
import numpy.typing as npt
import orjson

from serving.tokens import Tokenizer, TokenStream
from training.augment import Augmenter
from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.examples import Batcher, Example, encode, in_one_case, tagged_example
from training.gazetteer import Gazetteer, names_of_several
from training.schema import Schema
from training.teacher import Teachers


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run learns from and is chosen by."""

    train: Sequence[AnnotatedDocument]
    dev: Sequence[AnnotatedDocument]
    partial: Sequence[AnnotatedDocument] = ()
    """Documents of corpora that annotate only some span types; their labels count where they have any."""
    gazetteer: Gazetteer | None = None
    """Names to show in the place of others; None: those of other training documents."""
    unlabelled: Sequence[AnnotatedDocument] = ()
    """Documents without annotation, for teachers to explain."""

    def fingerprint(self) -> str:
        """SHA-256 over all documents and their roles, to tell one run from another."""
        digest = hashlib.sha256()
        roles = ("train", "dev", "partial", *(["unlabelled"] if self.unlabelled else []))
        for role in roles:
            digest.update(role.encode())
            for document in getattr(self, role):
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
    documents: Sequence[AnnotatedDocument]
    rows: datasets.Dataset
    """An example of each document."""
    cases: Sequence[str | None]
    groups: list[list[int]]


class Epochs:
    """What is shown in each epoch. The seed decides it, also after a resume."""

    def __init__(
        self,
        data: TrainingData,
        tokenizer: Tokenizer,
        schema: Schema,
        batcher: Batcher,
        config: TrainConfig,
        teachers: Teachers | None = None,
    ) -> None:
        self.train = encode(data.train, tokenizer, schema)
        self._partial = encode(data.partial, tokenizer, schema)
        self.unlabelled = encode(data.unlabelled, tokenizer, schema)
        well_known = names_of_several(data.train)
        gazetteer = data.gazetteer or Gazetteer.of(data.train, config.name_types, well_known)
        self._augment = Augmenter(config, gazetteer, well_known)
        self._tokenizer, self._schema = tokenizer, schema
        self._batcher, self._config = batcher, config
        self._teachers = teachers

    def plan(self, epoch: int) -> EpochPlan:
        """Which documents an epoch shows, and in which order."""
        config = self._config
        random = np.random.default_rng([config.seed, epoch])
        drawn = [(self.train, np.arange(len(self.train.documents)))]
        if epoch < config.partial_epochs:
            order = random.permutation(len(self._partial.documents))
            drawn.append((self._partial, order[: config.partial_documents]))
        drawn.append((self.unlabelled, self._turn(epoch)))
        documents = [encoded.documents[at] for encoded, chosen in drawn for at in chosen]
        rows = datasets.concatenate_datasets([encoded.rows.select(chosen) for encoded, chosen in drawn])
        lower, upper = config.lower_case_share, config.upper_case_share
        drawn_cases = random.choice(3, len(rows), p=[1 - lower - upper, lower, upper])
        cases = [(None, "lower", "upper")[case] for case in drawn_cases]
        groups = self._batcher.groups(np.array(rows["length"]), random)
        return EpochPlan(epoch, documents, rows, cases, groups)

    def examples(self, plan: EpochPlan, group: int) -> list[Example]:
        """The documents of one batch as they are shown."""
        shown = [self._example(plan, row) for row in plan.groups[group]]
        cases = [plan.cases[row] for row in plan.groups[group]]
        examples = self._taught([document for document, _ in shown], [example for _, example in shown])
        return [in_one_case(e, case) if case else e for e, case in zip(examples, cases, strict=True)]

    def _turn(self, epoch: int) -> npt.NDArray[np.int64]:
        """The unlabelled documents of an epoch: all have their turn before one comes again."""
        size = len(self.unlabelled.documents)
        count = min(size, self._config.unlabelled_documents)
        order = np.random.default_rng(self._config.seed).permutation(size)
        return order[(np.arange(count) + epoch * count) % max(1, size)]

    def _example(self, plan: EpochPlan, row: int) -> tuple[AnnotatedDocument, Example]:
        document = plan.documents[row]
        if row < len(self.train.documents):
            random = np.random.default_rng([self._config.seed, plan.epoch, row])
            changed = self._augment(document, random)
            if changed is not document:
                (stream,) = self._tokenizer.encode([changed.document()])
                if isinstance(stream, TokenStream):
                    return changed, tagged_example(changed, stream, self._schema)[0]
        return document, Example.from_row(plan.rows[row])

    def _taught(
        self, documents: Sequence[AnnotatedDocument], examples: Sequence[Example]
    ) -> Sequence[Example]:
        """Teachers speak of documents in which nothing is annotated, or nothing but labels."""
        asked = [at for at, document in enumerate(documents) if document.known_types == frozenset()]
        if self._teachers is None or not asked:
            return examples
        targets = self._teachers(
            [documents[at].document() for at in asked], [examples[at].stream for at in asked]
        )
        soft = dict(zip(asked, targets, strict=True))
        return [replace(example, soft=soft.get(at)) for at, example in enumerate(examples)]
