"""A training job from file names to a model folder: what `embargo train` does."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from serving.errors import CorpusError, TrainingError
from serving.model_folder import FILES
from training.backbone import is_model_folder
from training.config import TrainConfig
from training.corpus import AnnotatedDocument, Split, read_corpus, split_file
from training.data import TrainingData
from training.folder import EvaluationSet, TrainedModel, write_folder
from training.gazetteer import Gazetteer
from training.manifest import Provenance
from training.report import plot_curves
from training.schema import Schema
from training.teacher import teacher_files
from training.train import Progress, Run, Training
from training.unlabelled import draw_unlabelled, some_cut_short
from training.validate import problems


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What to train on, from what, and where to put it."""

    data: Path
    extra: Sequence[str]
    start: str
    name: str
    config: TrainConfig
    schema: Schema
    run_folder: Path
    model_folder: Path
    command: str
    teachers: Sequence[str] = ()
    """Model folders that explain the unlabelled documents."""
    unlabelled: Sequence[Path] = ()
    """Files of documents without annotation."""


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """One corpus on the command line: its path and the types it marks (None: all)."""

    path: Path
    known_types: frozenset[str] | None

    @classmethod
    def parse(cls, given: str, schema: Schema) -> "CorpusFiles":
        """`PATH` or `PATH:TYPE,TYPE`. Raises CorpusError at an unknown type or a missing path."""
        path, colon, types = given.partition(":")
        known = frozenset(types.split(",")) if colon else None
        if unknown := (known or frozenset()) - schema.types.keys():
            raise CorpusError(
                f"{given}: unknown types {', '.join(sorted(unknown))}; "
                f"expected some of {', '.join(schema.types)}"
            )
        if not Path(path).exists():
            raise CorpusError(f"{path} does not exist; expected a corpus folder or a .jsonl file.")
        return cls(Path(path), known)

    def read(self, split: Split) -> tuple[list[Path], list[AnnotatedDocument]]:
        """The file and the documents of a split; both empty if it has none."""
        file = split_file(self.path, split)
        return ([file], list(read_corpus(file, self.known_types))) if file else ([], [])


def split_name(name: str) -> tuple[str, str]:
    """Name and version of `<name>-v<version>`. Raises TrainingError at anything else."""
    match = re.fullmatch(r"([a-z0-9][a-z0-9_.-]*)-v([0-9]+)", name)
    if match is None:
        raise TrainingError(
            f"the name {name!r} is not <name>-v<version>, for example mine-v1 "
            "(lower case letters, digits, '-', '_' and '.')."
        )
    return match[1], match[2]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The corpora of a job by role, and the files they came from."""

    data: TrainingData
    files: dict[str, list[Path]]
    held_out: list[EvaluationSet]
    """The dev and test splits."""


def gather(corpora: Sequence[str], schema: Schema, config: TrainConfig) -> Gathered:
    """Read corpora as the command line names them. Raises CorpusError at one that cannot be used."""
    files: dict[str, list[Path]] = {"train": [], "dev": [], "partial": []}
    documents: dict[str, list[AnnotatedDocument]] = {"train": [], "dev": [], "partial": []}
    held_out: list[EvaluationSet] = []
    for corpus in (CorpusFiles.parse(given, schema) for given in corpora):
        role = "train" if corpus.known_types is None else "partial"
        found, rows = corpus.read("train")
        files[role] += found
        documents[role] += rows
        if corpus.known_types is not None:
            continue
        splits: tuple[Split, Split] = ("dev", "test")
        for split in splits:
            found, rows = corpus.read(split)
            held_out += [EvaluationSet(str(f), rows, split == "dev") for f in found]
            if split == "dev":
                files["dev"] += found
                documents["dev"] += rows
    _check(documents, held_out, schema)
    if config.names_share and (unknown := set(config.name_types) - schema.types.keys()):
        raise TrainingError(
            f"name_types has {', '.join(sorted(unknown))}; expected some of {', '.join(schema.types)}"
        )
    gazetteer = None
    if config.gazetteer:
        files["gazetteer"] = [Path(config.gazetteer)]
        gazetteer = Gazetteer.load(Path(config.gazetteer))
    train = _drawn(documents["train"], config)
    return Gathered(TrainingData(train, documents["dev"], documents["partial"], gazetteer), files, held_out)


def run_job(job: TrainingJob, progress: Progress) -> Mapping[str, Mapping[str, Any]]:
    """Train, export, calibrate, measure; return the metrics by data set."""
    name, version = split_name(job.name)
    if bool(job.teachers) is not bool(job.unlabelled):
        raise TrainingError(
            "teachers explain unlabelled text: give both --teacher and --unlabelled, or none."
        )
    gathered = gather([str(job.data), *job.extra], job.schema, job.config)
    if job.teachers:
        gathered = _with_unlabelled(gathered, job)
    start = {"start": [Path(job.start) / FILES.manifest]} if is_model_folder(job.start) else {}
    provenance = Provenance.now(job.command, job.config.seed, job.start, {**gathered.files, **start})
    run = Run(
        job.config, gathered.data, job.schema, job.start, job.run_folder, provenance.code_hash(), job.teachers
    )
    training = Training(run, progress)
    provenance = replace(provenance, new_heads=not training.has_old_heads)
    for line in _opening(job, training):
        progress(0, training.steps, f"{line}\n")
    state = training.run()
    progress(training.steps, training.steps, "exporting, calibrating and measuring\n")
    trained = TrainedModel(
        training.model,
        training.backbone,
        training.embargo_config.model_copy(update={"name": name, "version": version}),
        job.schema,
        provenance,
        extras={
            "training.toml": lambda path: path.write_text(_as_toml(job.config), encoding="utf-8"),
            "curves.json": lambda path: path.write_bytes(orjson.dumps(state.history) + b"\n"),
            "curves.png": lambda path: plot_curves(state.history, path),
        },
    )
    return write_folder(job.model_folder, trained, gathered.held_out)


def _with_unlabelled(gathered: Gathered, job: TrainingJob) -> Gathered:
    """As many unlabelled documents as the epochs show, none of them a held-out one."""
    held_out = {document.text for file in gathered.held_out for document in file.documents}
    # Settings may ask for more epochs than `epochs`; what is drawn then comes a second time.
    count = job.config.epochs * job.config.unlabelled_documents
    documents = draw_unlabelled(job.unlabelled, count, job.config.seed, held_out)
    documents = some_cut_short(documents, job.config.short_share, job.config.seed)
    files = {**gathered.files, "unlabelled": [*job.unlabelled], "teachers": teacher_files(job.teachers)}
    return replace(gathered, data=replace(gathered.data, unlabelled=documents), files=files)


def _drawn(documents: Sequence[AnnotatedDocument], config: TrainConfig) -> Sequence[AnnotatedDocument]:
    """As many training documents as the config asks for; a larger draw holds the smaller."""
    if not config.documents:
        return documents
    order = np.random.default_rng(config.seed).permutation(len(documents))
    return [documents[at] for at in order[: config.documents]]


def _opening(job: TrainingJob, training: Training) -> Iterator[str]:
    """What a run begins with, for the person who waits for it."""
    train = training.data.train
    spans = sum(len(list(document.mentions())) for document in train.documents)
    yield (
        f"{len(train.documents)} documents, {spans} gold spans of which {len(train.unreachable)} end "
        f"inside a word of the tokenizer; {training.epochs} epochs on {training.device}"
    )
    if job.teachers:
        count = len(training.data.unlabelled.documents)
        yield f"{count} unlabelled documents, explained by {', '.join(job.teachers)}"
    if is_model_folder(job.start) and not training.has_old_heads:
        yield f"{job.start} has other types or labels: its encoder is kept, its heads start anew"


def _check(
    documents: Mapping[str, list[AnnotatedDocument]], held_out: Sequence[EvaluationSet], schema: Schema
) -> None:
    if not documents["train"] or not documents["dev"]:
        raise CorpusError(
            f"got {len(documents['train'])} training and {len(documents['dev'])} dev documents; "
            "expected both: a corpus folder holds train.jsonl and dev.jsonl."
        )
    read = {"train": documents["train"], **{file.name: file.documents for file in held_out}}
    wrong = [
        f"{role}: {problem}"
        for role, rows in read.items()
        for document in rows
        for problem in problems(document, schema)
    ]
    learned = {document.text for role in ("train", "partial") for document in documents[role]}
    wrong += [
        f"{file.name}: {document.id} is also among the training documents; expected it in one place"
        for file in held_out
        for document in file.documents
        if document.text in learned
    ]
    if wrong:
        raise CorpusError(f"{len(wrong)} problems in the corpora:\n" + "\n".join(wrong[:20]))


def _as_toml(config: TrainConfig) -> str:
    """TOML's strings, numbers and booleans are written as JSON's are."""
    return "".join(f"{key} = {orjson.dumps(value).decode()}\n" for key, value in asdict(config).items())
