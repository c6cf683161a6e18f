"""A training job from files to a served folder: `embargo train` and what may go wrong before it."""

from dataclasses import replace
from pathlib import Path

import onnx
import orjson
import pytest
import torch
from safetensors.torch import load_file

from serving.analyzer import Analyzer
from serving.errors import CorpusError, TrainingError
from serving.model_folder import ModelFolder, file_sha256
from serving.results import Document
from tests.conftest import quiet
from training.average import average
from training.backbone import load_backbone
from training.config import TrainConfig
from training.corpus import AnnotatedDocument, read_corpus, write_corpus
from training.folder import EvaluationSet
from training.job import TrainingJob, run_job
from training.manifest import Provenance, rehash
from training.recalibrate import recalibrate, recalibrated
from training.schema import Schema, load_schema, schema_of


@pytest.fixture
def job(
    tmp_path: Path,
    tiny_config: TrainConfig,
    schema: Schema,
    backbone_folder: Path,
    corpus: list[AnnotatedDocument],
) -> TrainingJob:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        # The same documents, but not the same texts.
        rows = [replace(d, text=f"{d.text} {split}") for d in corpus]
        write_corpus(data / f"{split}.jsonl", rows)
    partial = tmp_path / "silver.jsonl"
    write_corpus(partial, [replace(d, cats=None) for d in corpus])
    return TrainingJob(
        data=data, extra=[f"{partial}:LOCATION,ORG"], start=str(backbone_folder), name="mine-v3",
        config=replace(tiny_config, epochs=2), schema=schema, run_folder=tmp_path / "run",
        model_folder=tmp_path / "models" / "mine-v3", command="embargo train",
    )  # fmt: skip


def test_a_job_writes_a_folder_that_serves(job: TrainingJob) -> None:
    metrics = run_job(job, quiet)
    folder = ModelFolder.open(job.model_folder)
    assert (folder.config.name, folder.config.version) == ("mine", "3")
    assert Analyzer.load(folder).analyze([Document("the bank of Russia")])[0].error is None
    assert set(metrics) == {str(job.data / "dev.jsonl"), str(job.data / "test.jsonl")}
    assert metrics[str(job.data / "dev.jsonl")]["label_thresholds"] == "cross-fitted"
    assert metrics[str(job.data / "test.jsonl")]["label_thresholds"] == "model"

    manifest = orjson.loads((job.model_folder / "manifest.json").read_bytes())
    assert manifest["data"]["train"][str(job.data / "train.jsonl")] == file_sha256(job.data / "train.jsonl")
    assert manifest["seed"] == job.config.seed
    assert manifest["code"]
    names = {path.name for path in job.model_folder.iterdir()}
    assert {"training.toml", "curves.json", "curves.png", "metrics.json", "README.md"} <= names
    assert TrainConfig.from_toml(job.model_folder / "training.toml") == job.config


def test_a_trained_folder_is_a_start_for_the_next(job: TrainingJob) -> None:
    first = run_job(job, quiet)
    again = replace(
        job, start=str(job.model_folder), run_folder=job.run_folder.with_name("run2"),
        model_folder=job.model_folder.with_name("mine-v4"), name="mine-v4",
        config=replace(job.config, encoder_learning_rate=1e-9, head_learning_rate=1e-9),
    )  # fmt: skip
    second = run_job(again, quiet)
    manifest = orjson.loads((again.model_folder / "manifest.json").read_bytes())
    assert manifest["started_from"]["command"] == job.command
    assert "train" in manifest["started_from"]["data"]
    assert list(manifest["data"]["start"]) == [str(job.model_folder / "manifest.json")]
    assert manifest["new_heads"] is False
    card = (again.model_folder / "README.md").read_text(encoding="utf-8")
    assert f"Before that: `{job.command}`" in card
    for data in first:
        # Nothing was learned on top, so the heads must have come along.
        assert second[data]["span_micro_f1"] == pytest.approx(first[data]["span_micro_f1"], abs=0.02)


def test_the_mean_of_two_runs_from_one_start(job: TrainingJob, tmp_path: Path) -> None:
    run_job(job, quiet)
    other = _another(job, "other-v1", replace(job.config, encoder_learning_rate=1e-3))
    run_job(other, quiet)
    folders, dev = [job.model_folder, other.model_folder], job.data / "dev.jsonl"
    provenance = Provenance.of_average("embargo average", folders, [dev])
    target = tmp_path / "models" / "mean-v2"
    metrics = average(folders, target, [EvaluationSet(str(dev), list(read_corpus(dev)), True)], provenance)
    assert list(metrics) == [str(dev)]

    first, second, mean = (load_file(folder / "model.safetensors") for folder in (*folders, target))
    for name, tensor in mean.items():
        expected = (first[name].float() + second[name].float()) / 2
        torch.testing.assert_close(tensor.float(), expected, rtol=1e-3, atol=1e-6)
    assert any(not torch.equal(first[name], second[name]) for name in mean)

    opened = ModelFolder.open(target)
    assert (opened.config.name, opened.config.version) == ("mean", "2")
    assert Analyzer.load(opened).analyze([Document("the bank of Russia")])[0].error is None
    manifest = orjson.loads((target / "manifest.json").read_bytes())
    assert [made["command"] for made in manifest["averaged"]] == [job.command, other.command]
    assert list(manifest["data"]["averaged"]) == [str(folder / "manifest.json") for folder in folders]
    card = (target / "README.md").read_text(encoding="utf-8")
    assert f"the mean of the weights of `{folders[0]}`, `{folders[1]}`" in card
    assert card.count("- Before that:") == 2


def test_runs_that_differ_have_no_mean(job: TrainingJob) -> None:
    run_job(job, quiet)
    other = _another(job, "other-v1", replace(job.config, seed=job.config.seed + 1))
    wide = _another(job, "wide-v1", replace(job.config, window_size=job.config.window_size + 8))
    for run in (other, wide):
        run_job(run, quiet)
    provenance = Provenance.of_average("embargo average", [job.model_folder], [])
    sets = [EvaluationSet("dev", list(read_corpus(job.data / "dev.jsonl")), True)]
    target = job.model_folder.with_name("mean-v1")
    for folders, message in (
        ([job.model_folder, other.model_folder], "did not start from the weights"),
        ([job.model_folder, wide.model_folder], "has windows other than"),
        ([job.model_folder], "got 1 model folder to average"),
    ):
        with pytest.raises(TrainingError, match=message):
            average(folders, target, sets, provenance)
    with pytest.raises(TrainingError, match="no dev documents"):
        average([job.model_folder] * 2, target, [], provenance)
    assert not target.exists()


def test_heads_that_start_anew_need_one_seed_for_a_mean(job: TrainingJob, tiny_folder: Path) -> None:
    schema = replace(job.schema, labels=dict(reversed(job.schema.labels.items())))
    job = replace(job, start=str(tiny_folder), schema=schema, config=replace(job.config, epochs=1))
    other = _another(job, "other-v1", replace(job.config, seed=job.config.seed + 1))
    for run in (job, other):
        run_job(run, quiet)
        assert orjson.loads((run.model_folder / "manifest.json").read_bytes())["new_heads"] is True
    folders = [job.model_folder, other.model_folder]
    with pytest.raises(TrainingError, match="same seed where heads start anew"):
        average(folders, job.model_folder.with_name("mean-v1"), [], Provenance.of_average("x", folders, []))


def _another(job: TrainingJob, name: str, config: TrainConfig) -> TrainingJob:
    return replace(
        job, name=name, config=config, command=f"embargo train --name {name}",
        run_folder=job.run_folder.with_name(name), model_folder=job.model_folder.with_name(name),
    )  # fmt: skip


def test_a_smaller_student_of_a_teacher(
    job: TrainingJob, tiny_folder: Path, corpus: list[AnnotatedDocument], tmp_path: Path
) -> None:
    unlabelled = tmp_path / "texts.jsonl"
    held_out = corpus[0].text + " dev"
    texts = [held_out, *(d.text for d in corpus)]
    unlabelled.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
    lines: list[str] = []
    config = replace(job.config, layers=1)
    student = replace(job, teachers=[str(tiny_folder)], unlabelled=[unlabelled], config=config)
    run_job(student, lambda done, total, line: lines.append(line))
    assert f"{len(corpus)} unlabelled documents" in "".join(lines)  # all but the held-out one
    folder = ModelFolder.open(job.model_folder)
    config_json = orjson.loads((folder.path / "config.json").read_bytes())
    assert config_json["num_hidden_layers"] == 1
    manifest = orjson.loads((folder.path / "manifest.json").read_bytes())
    assert list(manifest["data"]["teachers"].values()) == [file_sha256(tiny_folder / "manifest.json")]
    assert manifest["data"]["unlabelled"] == {str(unlabelled): file_sha256(unlabelled)}


def test_teachers_and_text_for_them_come_together(job: TrainingJob, tiny_folder: Path) -> None:
    with pytest.raises(TrainingError, match="both --teacher and --unlabelled"):
        run_job(replace(job, teachers=[str(tiny_folder)]), quiet)


@pytest.mark.parametrize(("layers", "kept"), [(1, [1]), (2, [0, 1])])
def test_layers_kept_end_with_the_last(backbone_folder: Path, layers: int, kept: list[int]) -> None:
    whole = load_backbone(str(backbone_folder), 0.0).encoder.encoder.layer
    fewer = load_backbone(str(backbone_folder), 0.0, layers).encoder.encoder.layer
    assert len(fewer) == layers
    for layer, at in zip(fewer, kept, strict=True):
        assert torch.equal(layer.output.dense.weight, whole[at].output.dense.weight)


def test_more_layers_than_there_are_is_refused(backbone_folder: Path) -> None:
    with pytest.raises(TrainingError, match="layers is 3, but the encoder has 2"):
        load_backbone(str(backbone_folder), 0.0, 3)


def test_spans_alone_are_enough(job: TrainingJob, corpus: list[AnnotatedDocument]) -> None:
    job = replace(job, extra=[])
    for split in ("train", "dev", "test"):
        rows = [replace(d, text=f"{d.text} {split}", cats=None) for d in corpus]
        write_corpus(job.data / f"{split}.jsonl", rows)
    run_job(job, quiet)
    config = ModelFolder.open(job.model_folder).config
    assert {label.threshold for label in config.labels} == {0.5}


def test_a_folder_is_calibrated_again_on_other_documents(
    job: TrainingJob, corpus: list[AnnotatedDocument], tmp_path: Path
) -> None:
    run_job(job, quiet)
    other = tmp_path / "other.jsonl"
    write_corpus(other, corpus[:8])
    sets = [EvaluationSet(str(other), corpus[:8], is_dev=True)]
    provenance = recalibrated(job.model_folder, [other], "embargo calibrate")
    metrics = recalibrate(job.model_folder, tmp_path / "again", sets, provenance)
    assert list(metrics) == [str(other)]
    before, after = (
        orjson.loads((folder / "manifest.json").read_bytes())
        for folder in (job.model_folder, tmp_path / "again")
    )
    assert after["data"]["dev"] == {str(other): file_sha256(other)}
    assert after["data"]["train"] == before["data"]["train"]
    assert after["files"]["model.safetensors"] == before["files"]["model.safetensors"]
    assert after["command"] == "embargo train && embargo calibrate"
    assert (before["remade_with"], after["code"]) == (None, before["code"])
    assert set(after["remade_with"]) == {"code", "libraries", "python"}
    assert (tmp_path / "again" / "curves.png").is_file()
    with pytest.raises(TrainingError, match="no dev documents"):
        recalibrate(job.model_folder, tmp_path / "x", [], provenance)


def test_a_quantised_folder_is_calibrated_and_measured_with_its_own_graph(
    job: TrainingJob, corpus: list[AnnotatedDocument], tmp_path: Path
) -> None:
    run_job(job, quiet)
    folder = job.model_folder
    config = orjson.loads((folder / "config.json").read_bytes())
    config["embargo"]["graph_variant"] = "int8"
    (folder / "config.json").write_bytes(orjson.dumps(config))
    graph = onnx.load(folder / "model.onnx")
    graph.producer_name = "another graph of these weights"
    onnx.save(graph, folder / "model.onnx")
    rehash(folder)

    sets = [EvaluationSet("dev", corpus, is_dev=True)]
    provenance = recalibrated(folder, [job.data / "dev.jsonl"], "embargo calibrate")
    recalibrate(folder, tmp_path / "again", sets, provenance)
    assert ModelFolder.open(tmp_path / "again").config.graph_variant == "int8"
    assert onnx.load(tmp_path / "again" / "model.onnx").producer_name == graph.producer_name
    assert "The graph is int8." in (tmp_path / "again" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": "mine"}, TrainingError, "not <name>-v<version>"),
        ({"extra": ["nowhere.jsonl"]}, CorpusError, "does not exist"),
        ({"extra": ["DATA:HUMAN"]}, CorpusError, "unknown types HUMAN"),
        ({"start": "no/such/backbone"}, TrainingError, "cannot be loaded"),
    ],
)
def test_a_wrong_job_is_refused_before_it_runs(
    job: TrainingJob, change: dict[str, object], error: type[Exception], message: str
) -> None:
    if "extra" in change:
        change = {"extra": [str(x).replace("DATA", str(job.data)) for x in job.extra and change["extra"]]}  # type: ignore[attr-defined]
    with pytest.raises(error, match=message):
        run_job(replace(job, **change), quiet)  # type: ignore[arg-type]


def test_a_document_to_learn_from_and_to_measure_on_is_refused(job: TrainingJob) -> None:
    with pytest.raises(CorpusError, match="0 is also among the training documents"):
        run_job(replace(job, extra=[str(job.data / "dev.jsonl")]), quiet)


def test_a_broken_test_split_is_refused_before_the_run(
    job: TrainingJob, corpus: list[AnnotatedDocument]
) -> None:
    write_corpus(job.data / "test.jsonl", [replace(corpus[0], cats=("nonsense",))])
    with pytest.raises(CorpusError, match="unknown label 'nonsense'"):
        run_job(job, quiet)


def test_a_corpus_without_dev_says_what_is_missing(job: TrainingJob) -> None:
    (job.data / "dev.jsonl").unlink()
    with pytest.raises(CorpusError, match="0 dev documents"):
        run_job(job, quiet)


def test_a_corpus_may_bring_its_own_schema(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text('[types]\nSHIP = "A ship."\n[labels.event]\nsunk = "It sank."\n')
    schema = load_schema(schema_of(tmp_path))
    assert (list(schema.types), schema.labels_of("event")) == (["SHIP"], ["sunk"])
    with pytest.raises(CorpusError, match="no label schema"):
        load_schema(tmp_path / "none.toml")
