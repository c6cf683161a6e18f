"""Trials: variants of one run side by side, for each question that docs/LOG.md answers.

A file of trials names corpora, seeds, settings common to all and settings of each variant.
Every variant is trained with every seed and measured on the same documents.
"""

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.table import Table

from serving.errors import TrainingError
from serving.model_folder import file_sha256
from training.config import TrainConfig
from training.corpus import read_corpus
from training.evaluate import evaluate, read
from training.evaluation import rounded
from training.formats.jsonl import read_rows
from training.job import gather
from training.schema import Schema
from training.train import Progress, Run, Training

Row = Mapping[str, Any]
"""`{"variant", "seed", "run_id", "files", "documents", "scores": {file: {"spans", "labels"}}}`."""

ROWS, RUNS = "trials.jsonl", "runs"
"""What the folder of trials holds: a row a finished trial, and the checkpoints of the others."""


class TrialFile(BaseModel):
    """A file of trials, as TOML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: list[str] = ["datasets/sanctions-news"]
    """Corpora, as `embargo train` takes them in --data and --extra."""
    start: str = "backbone"
    measure: list[Path]
    """Files of documents; label thresholds are cross-fitted on each."""
    seeds: list[int]
    base: dict[str, Any] = {}
    """Settings of TrainConfig for all variants."""
    variants: dict[str, dict[str, Any]]
    """Settings by name of variant."""

    @classmethod
    def load(cls, path: Path) -> "TrialFile":
        """Raises TrainingError if the file is no file of trials."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise TrainingError(f"{path} is no file of trials: {error}") from error

    def configs(self) -> list[tuple[str, TrainConfig]]:
        """Variants and their settings; all variants of a seed before the next seed."""
        base = TrainConfig().updated(self.base)
        return [
            (name, base.updated({**settings, "seed": seed}))
            for seed in self.seeds
            for name, settings in self.variants.items()
        ]


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Runs trials and keeps a row of each in `folder`/trials.jsonl; finished ones are not run again."""

    trials: TrialFile
    schema: Schema
    folder: Path
    code: str
    """Hash of the code: what other code gave is another trial."""

    def run(self, progress: Progress) -> list[Row]:
        """All rows, in the order of the trials."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ROWS
        rows = [row for _, row in read_rows(path)] if path.exists() else []
        files = {str(file): file_sha256(file) for file in self.trials.measure}
        found: list[Row] = []
        for name, config in self.trials.configs():
            data = gather(self.trials.data, self.schema, config).data
            run = Run(config, data, self.schema, self.trials.start, self.folder / "run", self.code)
            run_id = run.run_id()
            key = {"variant": name, "seed": config.seed, "run_id": run_id, "files": files}
            row = next((row for row in rows if key.items() <= row.items()), None)
            if row is None:
                progress(0, 1, f"{name}, seed {config.seed}\n")
                # A folder of its own, so that a stopped trial goes on when its turn comes again.
                folder = self.folder / RUNS / run_id[:12]
                row = {**key, **self._trial(replace(run, folder=folder), progress)}
                shutil.rmtree(folder)
                with path.open("ab") as lines:
                    lines.write(orjson.dumps(row) + b"\n")
            found.append(row)
        return found

    def _trial(self, run: Run, progress: Progress) -> dict[str, Any]:
        training = Training(run, progress)
        training.run()
        scores = {}
        for file in self.trials.measure:
            readings = read(training.analyzer, list(read_corpus(file)), self.schema)
            result = evaluate(training.analyzer, readings, self.schema, cross_fit=True)
            scores[str(file)] = {
                "spans": rounded(result.spans.micro.f1),
                "labels": rounded(result.labels.macro_f1),
            }
        return {"documents": len(run.data.train), "scores": scores}


def table(rows: Sequence[Row]) -> Table:
    """A row a variant: mean over seeds and, with several, the range."""
    files = list(rows[0]["scores"]) if rows else []
    made = Table("variant", "documents", "seeds", *(f"{f} {k}" for f in files for k in _KINDS), box=None)
    for variant, own in _by_variant(rows).items():
        cells = [_spread([row["scores"][f][k] for row in own]) for f in files for k in _KINDS]
        made.add_row(variant, str(own[0]["documents"]), str(len(own)), *cells)
    return made


def plot_by_documents(rows: Sequence[Row], path: Path) -> None:
    """Learning curves: scores by number of training documents, a dot a trial, a line through means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, kind in zip(figure.subplots(1, 2), _KINDS, strict=True):
        for color, file in enumerate(rows[0]["scores"]):
            points = sorted(
                (row["documents"], score) for row in rows if (score := row["scores"][file][kind]) is not None
            )
            sizes = sorted({size for size, _ in points})
            axis.plot([x for x, _ in points], [y for _, y in points], "o", color=f"C{color}", alpha=0.5)
            means = [mean(y for x, y in points if x == size) for size in sizes]
            axis.plot(sizes, means, color=f"C{color}", label=file)
        axis.set_xscale("log")
        every = sorted({row["documents"] for row in rows})
        axis.set_xticks(every, [str(size) for size in every])
        axis.minorticks_off()
        axis.set_xlabel("training documents")
        axis.set_title({"spans": "strict span micro-F1", "labels": "label macro-F1"}[kind], fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


_KINDS = ("spans", "labels")


def _by_variant(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["variant"], []).append(row)
    return found


def _spread(scores: Sequence[float | None]) -> str:
    values = [score for score in scores if score is not None]
    if not values:
        return "-"
    around = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.4f}{around}"
