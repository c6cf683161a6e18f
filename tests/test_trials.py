"""Variants are trained with every seed, measured alike, and not trained twice."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from serving.errors import TrainingError
from training.corpus import AnnotatedDocument, write_corpus
from training.schema import Schema
from training.trials import TrialFile, TrialRunner, plot_by_documents, table


@pytest.fixture
def trials(tmp_path: Path, corpus: list[AnnotatedDocument], backbone_folder: Path) -> TrialFile:
    for split in ("train", "dev"):
        rows = [replace(d, text=f"{d.text} {split}") for d in corpus]
        write_corpus(tmp_path / f"{split}.jsonl", rows)
    return TrialFile(
        data=[str(tmp_path)],
        start=str(backbone_folder),
        measure=[tmp_path / "dev.jsonl"],
        seeds=[1, 2],
        base={"window_size": 32, "window_stride": 20, "tokens_per_step": 128, "epochs": 1, "min_steps": 1},
        variants={"few": {"documents": 4}, "all": {}},
    )


def test_each_variant_meets_each_seed_once(trials: TrialFile, schema: Schema, tmp_path: Path) -> None:
    lines: list[str] = []

    def progress(done: int, total: int, line: str) -> None:
        lines.append(line)

    runner = TrialRunner(trials, schema, tmp_path / "out", "code")
    rows = runner.run(progress)
    assert [(r["variant"], r["seed"], r["documents"]) for r in rows] == [
        ("few", 1, 4), ("all", 1, 12), ("few", 2, 4), ("all", 2, 12),
    ]  # fmt: skip
    assert all(0 <= r["scores"][str(tmp_path / "dev.jsonl")]["spans"] <= 1 for r in rows)
    assert "all, seed 2\n" in lines

    lines.clear()
    assert runner.run(progress) == rows
    assert not lines
    made = table(rows)
    assert [column.header for column in made.columns][:3] == ["variant", "documents", "seeds"]
    assert made.row_count == 2
    plot_by_documents(rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    assert len((tmp_path / "out" / "trials.jsonl").read_bytes().splitlines()) == 4
    assert orjson.loads((tmp_path / "out" / "trials.jsonl").read_bytes().splitlines()[0]) == rows[0]


def test_other_documents_to_measure_on_make_another_trial(
    trials: TrialFile, schema: Schema, tmp_path: Path, corpus: list[AnnotatedDocument]
) -> None:
    few = trials.model_copy(update={"seeds": [1], "variants": {"few": {"documents": 4}}})
    TrialRunner(few, schema, tmp_path / "out", "code").run(lambda *a: None)
    write_corpus(tmp_path / "other.jsonl", corpus[:2])
    more = few.model_copy(update={"measure": [*few.measure, tmp_path / "other.jsonl"]})
    (row,) = TrialRunner(more, schema, tmp_path / "out", "code").run(lambda *a: None)
    assert len(row["scores"]) == 2


def test_a_stopped_trial_goes_on_and_blocks_no_other(
    trials: TrialFile, schema: Schema, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int, line: str) -> None:
        if done == 2:
            raise Stopped

    slow = trials.model_copy(update={"base": {**trials.base, "checkpoint_minutes": 0.0}})
    with pytest.raises(Stopped):
        TrialRunner(slow, schema, tmp_path / "out", "code").run(stop)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1
    rows = TrialRunner(slow, schema, tmp_path / "out", "other code").run(lambda *a: None)
    assert len(rows) == 4


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.toml"
    path.write_text("seeds = [1]\nmeasure = []\nvariant = {}")
    with pytest.raises(TrainingError, match="variant"):
        TrialFile.load(path)
