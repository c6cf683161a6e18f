"""A training job from file names to a model folder: what `embargo train` and `export` do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from serving.analyzer import Analyzer
from serving.errors import CorpusError, TrainingError
from serving.model_folder import FILES, ModelFolder
from serving.run import onnx_forward
from training.backbone import load_backbone
from training.config import TrainConfig
from training.corpus import AnnotatedDocument, read_corpus, split_file
from training.evaluate import read
from training.export import Variant, export_graph
from training.folder import EvaluationSet, write_folder
from training.gate import compare
from training.manifest import Provenance
from training.model import JointModel
from training.report import plot_curves
from training.schema import Schema
from training.train import Progress, Training, TrainingData
from training.validate import problems
from training.weights import load_heads


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


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """One corpus on the command line: its path and the types it marks (None: all)."""

    path: Path
    known_types: frozenset[str] | None

    @classmethod
    def parse(cls, given: str, schema: Schema) -> "CorpusFiles":
        """`PATH` or `PATH:TYPE,TYPE`. Raises CorpusError at an unknown type or a missing path."""
        path, _, types = given.partition(":")
        known = frozenset(types.split(",")) if types else None
        if unknown := (known or frozenset()) - schema.types.keys():
            raise CorpusError(
                f"{given}: unknown types {', '.join(sorted(unknown))}; "
                f"expected some of {', '.join(schema.types)}"
            )
        if not Path(path).exists():
            raise CorpusError(f"{path} does not exist; expected a corpus folder or a .jsonl file.")
        return cls(Path(path), known)

    def read(self, split: Any) -> tuple[list[Path], list[AnnotatedDocument]]:
        """The file and the documents of a split; both empty if it has none."""
        file = split_file(self.path, split)
        return ([file], list(read_corpus(file, self.known_types))) if file else ([], [])


def run_job(job: TrainingJob, progress: Progress) -> Mapping[str, Mapping[str, Any]]:
    """Train, export, calibrate, measure; return the metrics by data set."""
    name, _, version = job.name.rpartition("-v")
    if not name or not version:
        raise TrainingError(f"the name {job.name!r} is not <name>-v<version>, for example mine-v1.")
    corpora = [CorpusFiles.parse(given, job.schema) for given in (str(job.data), *job.extra)]
    files: dict[str, list[Path]] = {"train": [], "dev": [], "partial": []}
    documents: dict[str, list[AnnotatedDocument]] = {"train": [], "dev": [], "partial": []}
    sets: list[EvaluationSet] = []
    for corpus in corpora:
        role = "train" if corpus.known_types is None else "partial"
        found, rows = corpus.read("train")
        files[role] += found
        documents[role] += rows
        if corpus.known_types is not None:
            continue
        for split in ("dev", "test"):
            found, rows = corpus.read(split)
            sets += [EvaluationSet(str(f), rows, split == "dev") for f in found]
            if split == "dev":
                files["dev"] += found
                documents["dev"] += rows
    _check(documents, job.schema)
    provenance = Provenance.now(job.command, job.config.seed, job.start, files)

    data = TrainingData(documents["train"], documents["dev"], documents["partial"])
    training = Training(job.config, data, job.schema, job.start, job.run_folder, progress)
    lost = len(training.unreachable)
    spans = sum(len(d.entities) + len(d.title_entities) for d in data.train)
    progress(
        0,
        training.steps,
        f"{len(data.train)} documents, {spans} gold spans ({lost} end inside "
        f"a word of the tokenizer), {training.epochs} epochs on {training.device}\n",
    )
    state = training.run()
    progress(training.steps, training.steps, "exporting, calibrating and measuring\n")
    job.model_folder.mkdir(parents=True, exist_ok=True)
    plot_curves(state.history, job.model_folder / "curves.png")
    (job.model_folder / "training.toml").write_text(_as_toml(job.config), encoding="utf-8")
    (job.model_folder / "curves.json").write_bytes(orjson.dumps(state.history) + b"\n")
    return write_folder(
        job.model_folder,
        training.model,
        training.backbone,
        training.embargo_config.model_copy(update={"name": name, "version": version}),
        job.schema,
        sets,
        provenance,
    )


def export_folder(folder: Path, target: Path, variant: Variant, gate_data: Path, schema: Schema) -> str:
    """Export the weights in a model folder again; a line on what came of it.

    Raises TrainingError if there are no weights, or if int8 does not pass the gate.
    """
    if not (folder / FILES.weights).is_file():
        raise TrainingError(f"{folder} has no {FILES.weights} to export; train a model first (`make train`).")
    backbone = load_backbone(str(folder), dropout=0.0)
    model = JointModel(backbone.encoder, len(schema.tags), len(schema.labels), dropout=0.0)
    load_heads(model, str(folder), schema)
    target.parent.mkdir(parents=True, exist_ok=True)
    export_graph(model, target, variant)
    if variant == "fp32":
        return f"Wrote {target}."
    reference = Analyzer.load(ModelFolder.open(folder))
    candidate = replace_graph(reference, target)
    result = compare(reference, candidate, read(reference, list(read_corpus(gate_data)), schema), schema)
    line = (
        f"int8 on {gate_data}: span F1 {-result.span_f1_loss:+.4f}, label F1 "
        f"{-result.label_f1_loss:+.4f}, label scores move by up to {result.largest_score_change:.4f} "
        "with the batch"
    )
    if not result.passed:
        target.unlink()
        raise TrainingError(f"{line}: the gate is not passed, no graph was kept.")
    return f"{line}: passed. Wrote {target}."


def replace_graph(analyzer: Analyzer, graph: Path) -> Analyzer:
    """The same model with another graph."""
    return Analyzer(analyzer.config, analyzer.tokenizer, onnx_forward(graph))


def _check(documents: Mapping[str, list[AnnotatedDocument]], schema: Schema) -> None:
    if not documents["train"] or not documents["dev"]:
        raise CorpusError(
            f"got {len(documents['train'])} training and {len(documents['dev'])} dev documents; "
            "expected both: a corpus folder holds train.jsonl and dev.jsonl."
        )
    wrong = [
        f"{role}: {problem}"
        for role in ("train", "dev")
        for document in documents[role]
        for problem in problems(document, schema)
    ]
    if wrong:
        raise CorpusError(f"{len(wrong)} problems in the corpora:\n" + "\n".join(wrong[:20]))


def _as_toml(config: TrainConfig) -> str:
    """TOML's strings, numbers and booleans are written as JSON's are."""
    return "".join(f"{key} = {orjson.dumps(value).decode()}\n" for key, value in asdict(config).items())
