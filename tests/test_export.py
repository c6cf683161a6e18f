"""The exported graph equals torch: the gate that must never be loosened."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
import torch
from onnx import numpy_helper

from benchmarks.tiny_model import WORDS
from serving.analyzer import Analyzer, Reading
from serving.errors import TrainingError
from serving.forward import Batch, OnnxForward, TokenOutputs, session_of, session_options
from serving.model_folder import ModelFolder
from serving.results import Document
from training import gate, reexport
from training.corpus import AnnotatedDocument, Span, write_corpus
from training.evaluate import read
from training.export import export_graph, fused_graph, fused_operators, write_graph
from training.folder import EvaluationSet
from training.gate import SCORE_CHANGE, GateReport, batch_sensitivity, compare
from training.manifest import Provenance, made_with
from training.model import JointModel
from training.quantise import Calibration, quantise
from training.reexport import Int8Job, export_again, export_int8
from training.schema import Schema
from training.weights import TorchForward, load_trained, round_to_half


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> JointModel:
    return load_trained(ModelFolder.open(tiny_folder))[0].eval()


@pytest.mark.parametrize("seed", range(4))
def test_graph_equals_torch_whatever_torch_pads_to(tiny_folder: Path, model: JointModel, seed: int) -> None:
    random = np.random.default_rng(seed)
    windows, tokens = int(random.integers(1, 9)), int(random.integers(3, 60))
    batch = random_batch(random, windows, tokens)
    padding = ((0, 0), (0, int(random.integers(0, 9))))
    padded = Batch(*(np.pad(array, padding) for array in batch))
    served = OnnxForward(tiny_folder / "model.onnx")(batch)
    trained = TorchForward(model, torch.device("cpu"))(padded)
    for ours, theirs in zip(served, trained, strict=True):
        assert np.abs(ours - theirs[:, :tokens]).max() < 1e-4


def random_batch(random: np.random.Generator, windows: int, tokens: int) -> Batch:
    shape = windows, tokens
    return Batch(random.integers(5, 60, shape), random.integers(0, 27, shape), np.ones(shape, dtype=np.int64))


def test_a_graph_without_a_mask_refuses_padding(tiny_folder: Path) -> None:
    forward = OnnxForward(tiny_folder / "model.onnx")
    assert not forward.pads
    batch = random_batch(np.random.default_rng(0), 2, 9)
    batch.attention_mask[1, 5:] = 0
    with pytest.raises(ValueError, match="takes windows of one length, got 9 and 5 tokens"):
        forward(batch)


@pytest.mark.parametrize(("given", "taken"), [(1, 1), (3, 3), (64, 8)])
def test_a_wide_pass_has_as_many_threads_as_are_of_use(tiny_folder: Path, given: int, taken: int) -> None:
    forward = OnnxForward(tiny_folder / "model.onnx", given)
    assert forward._wide.get_session_options().intra_op_num_threads == taken
    assert forward._session.get_session_options().intra_op_num_threads == 1


def test_the_graph_has_the_operators_that_a_cpu_runs_fast(tiny_folder: Path) -> None:
    counts = fused_operators(tiny_folder / "model.onnx")
    assert (counts["MultiHeadAttention"], counts["LayerNormalization"], counts["BiasGelu"]) == (2, 4, 2)
    assert counts["EmbedLayerNormalization"] == 1
    assert not {"Attention", "SkipLayerNormalization", "Softmax"} & set(counts)


def test_operators_stay_as_exported_when_a_session_is_made(tiny_folder: Path, tmp_path: Path) -> None:
    """The runtime would fuse what was taken apart again."""
    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    session_of(tiny_folder / "model.onnx", options)
    counts = fused_operators(tmp_path / "optimised.onnx")
    assert (counts["LayerNormalization"], counts.get("SkipLayerNormalization", 0)) == (4, 0)


def test_weights_are_rounded_once_for_graph_and_safetensors(
    tiny_folder: Path, model: JointModel, tmp_path: Path
) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, round_to_half(tensor)), name
    export_graph(model, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").stat().st_size == (tiny_folder / "model.onnx").stat().st_size


def random_texts(seed: int) -> list[Document]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 120, 40)
    return [Document(" ".join(random.choice(WORDS, length)).title()) for length in lengths]


@pytest.fixture(scope="module")
def texts() -> list[Document]:
    return random_texts(seed=2)


@pytest.fixture(scope="module")
def int8_graph(model: JointModel, tiny: Analyzer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in int8; its ranges are measured on other texts than it is tested on."""
    graph = fused_graph(model)
    calibration = Calibration(graph)
    Analyzer(tiny.config, tiny.tokenizer, calibration).read(random_texts(seed=1))
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    write_graph(quantise(graph, calibration.ranges), path)
    return path


@pytest.fixture(scope="module")
def int8(int8_graph: Path, tiny: Analyzer) -> Analyzer:
    return Analyzer(tiny.config, tiny.tokenizer, OnnxForward(int8_graph))


def test_every_product_of_the_encoder_is_int8_and_none_takes_its_range_from_the_batch(
    int8_graph: Path,
) -> None:
    counts = fused_operators(int8_graph)
    assert counts["MatMulIntegerToFloat"] == 2 * (3 + 3)
    assert counts["MatMul"] == 3 + 6  # the heads, and the loudest channels of six products
    assert (counts["MultiHeadAttention"], counts["FastGelu"]) == (2, 2)
    assert "BiasGelu" not in counts
    assert not [operator for operator in counts if "Dynamic" in operator]


def test_int8_weights_do_not_saturate_without_vnni(int8_graph: Path) -> None:
    weights = [numpy_helper.to_array(weight) for weight in onnx.load(int8_graph).graph.initializer]
    quantised = [weight for weight in weights if weight.dtype == np.int8]
    assert len(quantised) == 12
    assert (
        max(int(np.abs(weight).max()) for weight in quantised) == 63
    )  # two products of 255 fit into 16 bits


def test_int8_answers_do_not_move_with_batch_mates(int8: Analyzer, texts: list[Document]) -> None:
    assert batch_sensitivity(int8, texts) <= SCORE_CHANGE


def test_int8_agrees_with_fp32(int8: Analyzer, tiny: Analyzer, texts: list[Document]) -> None:
    ours, theirs = (
        np.concatenate([r.tag_logits for r in analyzer.read(texts) if isinstance(r, Reading)])
        for analyzer in (int8, tiny)
    )
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.85
    assert np.abs(ours - theirs).mean() < 0.1 * theirs.std()


def test_the_gate_sees_answers_that_move_with_batch_mates(tiny: Analyzer, texts: list[Document]) -> None:
    def noisy(batch: Batch) -> TokenOutputs:
        outputs = tiny.run.passes.forward(batch)
        return outputs._replace(tag_logits=outputs.tag_logits * (1 + 0.01 * len(batch.input_ids)))

    assert batch_sensitivity(Analyzer(tiny.config, tiny.tokenizer, noisy), texts) > SCORE_CHANGE
    assert batch_sensitivity(tiny, texts) <= SCORE_CHANGE


def test_the_gate_sees_what_a_variant_loses(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    def right(batch: Batch) -> TokenOutputs:
        """Tags by the token and labels by the sum of the tokens: something to lose."""
        outputs = tiny.run.passes.forward(batch)
        sums = batch.input_ids.sum(axis=1)[:, None, None] % np.arange(7, 7 + outputs.label_values.shape[2])
        values = np.broadcast_to(sums, outputs.label_values.shape).astype(np.float32)
        return outputs._replace(label_values=values)

    def worse(batch: Batch) -> TokenOutputs:
        outputs = right(batch)
        return outputs._replace(
            tag_logits=np.roll(outputs.tag_logits, 1, axis=2), label_values=-outputs.label_values
        )

    good, bad = (Analyzer(tiny.config, tiny.tokenizer, forward) for forward in (right, worse))
    plain = read(good, corpus, schema)
    as_read = [
        replace(
            d, entities=tuple(Span(e.start, e.end, e.type) for e in a.entities or ()), cats=_best(r, schema)
        )
        for d, a, r in zip(corpus, good.analyze([d.document() for d in corpus]), plain.readings, strict=True)
    ] * 6
    gold = read(good, as_read, schema)
    same = compare(good, good, gold, schema)
    assert (same.span_f1_loss, same.label_f1_loss, same.passed) == (0.0, 0.0, True)
    lost = compare(good, bad, gold, schema)
    assert lost.span_f1_loss > 0.3
    assert lost.label_f1_loss > 0.1
    assert not lost.passed


@pytest.mark.parametrize(
    ("losses", "passed"),
    [
        ((0.006, 0.0, 0.0), False), ((0.0, 0.006, 0.0), False), ((0.0, math.nan, 0.002), False),
        ((math.nan, math.nan, 0.0), False), ((math.nan, 0.001, 0.0), True), ((0.005, math.nan, 0.0), True),
    ],
)  # fmt: skip
def test_what_passes_the_gate(losses: tuple[float, float, float], passed: bool) -> None:
    assert GateReport(*losses).passed is passed


@pytest.fixture
def int8_job(corpus: list[AnnotatedDocument], tmp_path: Path) -> Int8Job:
    file = tmp_path / "corpus.jsonl"
    write_corpus(file, corpus)
    sets = [EvaluationSet("dev", corpus, is_dev=True)]
    return Int8Job(corpus, corpus, sets, {"ranges": [file], "gate": [file], "dev": [file]}, "embargo export")


def test_what_does_not_pass_the_gate_is_not_kept(
    tiny_folder: Path, tmp_path: Path, int8_job: Int8Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reexport, "compare", lambda *given: GateReport(0.006, 0.0, 0.0))
    with pytest.raises(TrainingError, match="gate is not passed"):
        export_int8(tiny_folder, tmp_path / "int8", int8_job)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_int8_that_passes_the_gate_is_a_complete_folder_that_says_what_it_is(
    tiny_folder: Path, tmp_path: Path, int8_job: Int8Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "SPAN_F1_LOSS", 1.0)  # a model that was never trained has none to lose
    report, metrics = export_int8(tiny_folder, tmp_path / "int8", int8_job)
    assert report.largest_score_change <= SCORE_CHANGE
    assert list(metrics) == ["dev"]
    folder = ModelFolder.open(tmp_path / "int8")
    assert folder.config.graph_variant == "int8"
    assert "MatMulIntegerToFloat" in fused_operators(folder.path / "model.onnx")
    assert "The graph is int8." in (folder.path / "README.md").read_text(encoding="utf-8")
    manifest = orjson.loads((folder.path / "manifest.json").read_bytes())
    assert manifest["command"] == "test && embargo export"
    assert list(manifest["data"]) == ["dev", "gate", "ranges"]
    made = orjson.loads((tiny_folder / "manifest.json").read_bytes())
    assert (manifest["code"], manifest["libraries"]) == (made["code"], made["libraries"])
    assert manifest["remade_with"] == made_with()
    analyses = Analyzer.load(folder).analyze([int8_job.gate[0].document()])
    assert analyses[0].error is None
    with pytest.raises(TrainingError, match="is int8, its thresholds and card too"):
        export_again(tmp_path / "int8", tmp_path / "x")
    export_int8(tmp_path / "int8", tmp_path / "again", int8_job)
    first, again = ((tmp_path / name / "model.onnx").read_bytes() for name in ("int8", "again"))
    assert first == again


def test_an_exported_folder_is_complete_and_reads_the_same(
    tiny_folder: Path, tmp_path: Path, corpus: list[AnnotatedDocument]
) -> None:
    export_again(tiny_folder, tmp_path / "again")
    folders = [ModelFolder.open(path) for path in (tiny_folder, tmp_path / "again")]
    documents = [document.document() for document in corpus]
    first, second = (Analyzer.load(folder).analyze(documents) for folder in folders)
    assert first == second
    manifest = orjson.loads((tmp_path / "again" / "manifest.json").read_bytes())
    assert manifest["remade_with"] == made_with()
    with pytest.raises(TrainingError, match="exists already"):
        export_again(tiny_folder, tmp_path / "again")


def test_int8_without_documents_says_which_are_missing(
    tiny_folder: Path, tmp_path: Path, int8_job: Int8Job
) -> None:
    with pytest.raises(TrainingError, match="got 0 documents to measure ranges on and 12 for the gate"):
        export_int8(tiny_folder, tmp_path / "int8", replace(int8_job, ranges=[]))


def _best(reading: Reading, schema: Schema) -> tuple[str, ...]:
    """The labels whose logits are among the four greatest of a document."""
    names = list(schema.labels)
    return tuple(names[at] for at in np.argsort(-reading.label_logits())[:4])


def test_a_folder_without_weights_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    (copy / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"no model\.safetensors"):
        export_again(copy, tmp_path / "x")


def test_a_manifest_of_before_its_newest_fields_is_read(tiny_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    manifest = orjson.loads((copy / "manifest.json").read_bytes())
    del manifest["remade_with"], manifest["new_heads"]
    (copy / "manifest.json").write_bytes(orjson.dumps(manifest))
    assert Provenance.of_manifest(copy) == Provenance.of_manifest(tiny_folder)
