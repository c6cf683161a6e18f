"""The benchmark takes turns fairly, survives its peers' failures, and gives runtimes our answers."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import spacy
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

from benchmarks import controller, environments, operators, prepare, process, roofline, rounds
from benchmarks.accuracy import accuracy
from benchmarks.controller import DEV, Setting, run
from benchmarks.converted import made_once
from benchmarks.environments import REQUIREMENTS, interpreter
from benchmarks.line_up import Entry, line_up
from benchmarks.plots import plot
from benchmarks.prepare import checkpoint_folder, plain_graph, train_spacy
from benchmarks.process import WorkerProcess
from benchmarks.protocol import Choice, Given, SystemFailed
from benchmarks.reader import EncoderReader, by_length, in_order
from benchmarks.report import Reference, report, save, table
from benchmarks.rounds import WARM_UP, Contestant, Ratio, Tuning, measure, tune, turns
from benchmarks.systems.onnx_runtime import OnnxRuntime, session_runner
from benchmarks.systems.spacy_cnn import SpacyCnn
from benchmarks.systems.transformers_pipeline import TransformersPipeline
from benchmarks.work import QUICK, Slice, slices
from serving.analyzer import Analyzer
from serving.errors import EmbargoError
from serving.forward import available_cpus
from serving.model_folder import ModelFolder
from serving.results import Analysis, Document
from serving.tokens import TokenStream
from serving.windows import Window
from tests.conftest import ROOT
from training.cli import app
from training.corpus import AnnotatedDocument, Span
from training.schema import Schema

FAKE = "tests.fake_system:FakeSystem"
TEXT = "The tanker Ojo Sel said oil and coal of North Korea in Vladivostok, 2397 workers. "


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_SETTLE_SECONDS", 0.0)


class Recorded:
    """Writes down what is asked of it, and takes as long as it is told to."""

    def __init__(self, name: str, calls: list[str], seconds: Mapping[str, float]) -> None:
        self.name, self.calls, self.seconds = name, calls, seconds
        self.choice: Choice = {}

    def use(self, choice: Choice) -> float:
        self.choice = choice
        self.calls.append(f"{self.name} loads {choice.get('rows', '')}".strip())
        return 1.5

    def read(self, slice: str) -> tuple[float, int]:
        self.calls.append(f"{self.name} {slice}")
        seconds = self.seconds.get(f"{slice}/{self.choice.get('rows')}", self.seconds.get(slice, 1.0))
        if seconds < 0:
            raise SystemFailed("it fell over")
        return seconds, len(self.calls)


def a_slice(name: str, rounds: int, kind: Any = "mixed") -> Slice:
    return Slice(name, kind, [[Document("a b c", id="0")]], rounds)


def contestant(name: str, calls: list[str], seconds: Mapping[str, float] = {}) -> Contestant:
    only: Choice = {}
    return Contestant(Recorded(name, calls, seconds), Tuning({"short": only, "mixed": only}, []))


# Turns


def test_all_have_their_turn_before_one_has_another() -> None:
    calls: list[str] = []
    both = [a_slice("small", 3), a_slice("large", 2)]
    started = {name: (contestant(name, calls), both) for name in "ABC"}
    done: list[int] = []
    assert turns(started) == 15
    calls.clear()
    found, dropped = measure(started, lambda number: calls.append(f"round {number}"), done.append)
    order = ["A small", "B small", "C small", "A large", "B large", "C large"]
    assert calls == [*order, "round 0", *order, "round 1", *order[:3], "round 2"]
    assert done == list(range(1, 16))
    assert found["B"].seconds == {"small": [1.0] * 3, "large": [1.0] * 2}
    assert not dropped


def test_who_fails_has_no_further_turn_and_no_result() -> None:
    calls: list[str] = []
    pair = [a_slice("small", 2), a_slice("large", 2)]
    started = {"A": (contestant("A", calls), pair), "B": (contestant("B", calls, {"large": -1}), pair)}
    done: list[int] = []
    found, dropped = measure(started, lambda number: None, done.append)
    assert set(found) == {"A"}
    assert dropped == {"B": "in round 1: it fell over"}
    assert calls.count("B small") == 1
    assert calls.count("B large") == 1
    assert done[-1] == 7  # A's last; B's missed turns count as over


def test_ratios_compare_neighbours_in_time() -> None:
    # The machine was twice as slow in the second round: no ratio shows it.
    ratio = Ratio.of([3.0, 6.0, 4.0], [1.0, 2.0, 1.0])
    assert ratio == Ratio(3.0, 3.0, 4.0)


def test_the_fastest_setup_is_chosen_for_each_kind_and_loaded_untimed() -> None:
    calls: list[str] = []
    system = Recorded("A", calls, {"one/1": 1.0, "one/8": 2.0, "many/1": 8.0, "many/8": 3.0})
    examples: Mapping[Any, Slice] = {"short": a_slice("one", 1, "short"), "mixed": a_slice("many", 1)}
    tuning = tune(system, [{"rows": 1}, {"rows": 8}], examples)
    assert tuning.best == {"short": {"rows": 1}, "mixed": {"rows": 8}}
    assert tuning.choice("long") == {"rows": 8}
    assert tuning.tried[1] == {"setup": {"rows": 8}, "one_seconds": 2.0, "many_seconds": 3.0}
    calls.clear()
    chosen = Contestant(system, tuning)
    assert chosen.load_seconds == 1.5
    assert chosen.read(a_slice("many", 1)) == (3.0, 3)
    assert chosen.read(a_slice("one", 1, "short"))[0] == 1.0
    assert calls == ["A loads 8", f"A {WARM_UP}", "A many", "A loads 1", f"A {WARM_UP}", "A one"]


def test_a_single_setup_is_not_tried() -> None:
    calls: list[str] = []
    tuning = tune(Recorded("A", calls, {}), [{"hint": "only"}], {"mixed": a_slice("many", 1)})
    assert tuning.choice("words") == {"hint": "only"}
    assert calls == []


# Processes


def fake(tmp_path: Path, fails: str = "", answer_seconds: float = 60.0) -> WorkerProcess:
    command = [sys.executable, "-m", "benchmarks.worker", FAKE, orjson.dumps({"fails": fails}).decode()]
    return WorkerProcess(command, tmp_path / "fake.log", 1, answer_seconds)


def given(tmp_path: Path) -> dict[str, Any]:
    names = ("model", "graph", "calibration", "scratch")
    return {"threads": 1, **{name: str(tmp_path / name) for name in names}}


def test_a_worker_reads_and_answers_whatever_its_system_prints(tmp_path: Path) -> None:
    work = Slice("small", "mixed", [[Document("Kim met Li", "Oil", "a")], [Document("Sea", None, "b")]], 1)
    with fake(tmp_path) as worker:
        opened = worker.ask("open", given=given(tmp_path))
        assert opened == {"choices": [{"threads": 1}], "versions": {"numpy": np.__version__}}
        worker.take(work)
        assert worker.use({"threads": 1}) >= 0
        seconds, memory = worker.read("small")
        assert seconds > 0
        assert 1 << 23 < memory < 1 << 31
        assert worker.answers("small") == [
            {
                "id": id_,
                "entities": [[0, 3, "PERSON"]],
                "title_entities": [],
                "cats": ["relief"],
                "logits": [1.0] * 16,
            }
            for id_ in ("a", "b")
        ]
    assert "a library that prints" in (tmp_path / "fake.log").read_text()


def test_an_error_is_an_answer_and_the_worker_goes_on(tmp_path: Path) -> None:
    with fake(tmp_path, "loading") as worker:
        worker.ask("open", given=given(tmp_path))
        for _ in range(2):
            with pytest.raises(SystemFailed, match="use: ValueError: no such graph"):
                worker.use({})


def test_a_worker_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with fake(tmp_path, "crashing") as worker:
        worker.ask("open", given=given(tmp_path))
        worker.take(Slice("many", "mixed", [[Document("Kim")] * 5], 1))
        with pytest.raises(SystemFailed, match="read: the process ended with status 3: out of memory"):
            worker.read("many")
        with pytest.raises(SystemFailed, match="the process ended with status 3"):
            worker.read("many")


def test_a_worker_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    with fake(tmp_path, "hanging") as worker:
        worker.ask("open", given=given(tmp_path))
        worker.take(Slice("small", "mixed", [[Document("Kim")]], 1))
        worker._answer_seconds = 0.2
        with pytest.raises(SystemFailed, match=r"read: no answer within 0\.2 s"):
            worker.read("small")
        assert worker._process.poll() is not None


# Environments


def test_an_environment_is_made_once_for_its_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def create(place: Path, **options: object) -> None:
        made.append(place)
        (place / "bin").mkdir(parents=True, exist_ok=True)
        (place / "bin" / "python").unlink(missing_ok=True)
        (place / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(environments.venv, "create", create)
    said: list[str] = []
    pins = tmp_path / "peer.txt"
    assert interpreter(None, tmp_path, said.append) == Path(sys.executable)
    pins.write_text("# nothing\n")
    for _ in range(2):
        python = interpreter("peer", tmp_path / "venvs", said.append, tmp_path)
    assert python == tmp_path / "venvs" / "peer" / "bin" / "python"
    assert len(made) == len(said) == 1
    pins.write_text(f"{tmp_path / 'no-such-package'}\n")
    for _ in range(2):  # a failed one is tried again
        with pytest.raises(SystemFailed, match=r"peer\.txt cannot be installed: ERROR: .*no-such-package"):
            interpreter("peer", tmp_path / "venvs", said.append, tmp_path)
    assert len(made) == 3


def test_everyone_in_the_line_up_exists_with_every_pin() -> None:
    entries = line_up([Path("a"), Path("embargo-b-v1")], Path("spacy"), lambda: None)
    assert [entry.name for entry in entries if entry.is_own] == [
        "embargo a",
        "embargo-b-v1",
        "embargo a, 1 thread",
    ]
    assert len({entry.name for entry in entries}) == len(entries)
    assert {entry.model for entry in entries if not entry.is_own} == {Path("a")}
    for entry in entries:
        module, _, name = entry.place.partition(":")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert f"\nclass {name}" in source
        if entry.requirements:
            lines = (REQUIREMENTS / f"{entry.requirements}.txt").read_text(encoding="utf-8").splitlines()
            assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)


def test_two_models_of_one_name_are_not_taken_for_one() -> None:
    with pytest.raises(EmbargoError, match=r"models/a-v1 and build/models/a-v1 have one name"):
        line_up([Path("models/a-v1"), Path("build/models/a-v1")], Path("spacy"), lambda: None)


def test_what_is_made_of_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        made_once(tmp_path / "made", fail)
    assert not (tmp_path / "made").exists()
    for _ in range(2):
        made_once(tmp_path / "made", lambda folder: (folder / "whole").touch(exist_ok=False))
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["whole"]


# Work


@pytest.fixture
def articles() -> list[AnnotatedDocument]:
    return [AnnotatedDocument(str(n), f"Article {n}\n" + TEXT * (1 + n), (), None) for n in range(12)]


def test_the_same_seed_draws_the_same_articles(articles: list[AnnotatedDocument]) -> None:
    made = slices(articles, QUICK, 13)
    assert made == slices(articles, QUICK, 13)
    assert made != slices(articles, QUICK, 14)
    assert [slice.name for slice in made] == [
        "short_1", "mixed_8", "mixed_16", "long_2", "words_32", "words_128", "words_512",
    ]  # fmt: skip
    by_name = {slice.name: slice for slice in made}
    assert [len(call) for call in by_name["short_1"].calls] == [1] * QUICK.short_calls
    assert len(by_name["mixed_16"].documents) == 16
    drawn = [d.text for name in ("mixed_8", "mixed_16") for d in by_name[name].documents]
    assert len(set(drawn[:12])) == 12  # none comes again before all have come
    for length in (32, 128, 512):
        documents = by_name[f"words_{length}"].documents
        assert {len(document.text.split()) for document in documents} == {length}
    assert min(len(d.text.split()) for d in by_name["long_2"].documents) > 500


# Runtimes around our windows and decoder


def window(start: int, tokens: int) -> Window:
    return Window(start, start + tokens, start, start + tokens)


def test_windows_in_order_fill_rows_and_never_the_budget() -> None:
    cuts = [[window(0, 10), window(8, 10)], [window(0, 30)], [window(0, 5)], [window(0, 5)]]
    lengths = [[len(w) for _, w in group] for group in in_order(cuts, rows=3)]
    assert lengths == [[10, 10, 30], [5, 5]]
    lengths = [[len(w) for _, w in group] for group in in_order(cuts, rows=3, padded_tokens=60)]
    assert lengths == [[10, 10], [30, 5], [5]]
    assert [document for group in in_order(cuts, rows=1) for document, _ in group] == [0, 0, 1, 2, 3]


def test_sorted_windows_are_dealt_out() -> None:
    cuts = [[window(0, 100)] for _ in range(4)]
    assert [len(group) for group in by_length(cuts, at_once=2)] == [2, 2]
    assert [len(group) for group in by_length(cuts, at_once=1)] == [4]


DOCUMENTS = [
    Document(TEXT * 6, None, "long"),
    Document("Security Council listed two firms.", "Russia said", "titled"),
    Document("Oil", None, "short"),
]


@pytest.fixture(scope="module")
def exported(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """What a peer gets to load."""
    folder = ModelFolder.open(tiny_folder)
    made = checkpoint_folder(folder, tmp_path_factory.mktemp("bench"))
    graph = plain_graph(folder, made)
    return Given(tiny_folder, graph, ROOT / "datasets" / "sanctions-news" / "train.jsonl", made, 1)


@pytest.mark.parametrize("choice", [{"rows": 1}, {"rows": 3}])
def test_a_runtime_gives_the_answers_of_the_engine(exported: Given, tiny: Analyzer, choice: Choice) -> None:
    system = OnnxRuntime()
    assert system.choices(2) == [{"rows": 1}, {"rows": 8}, {"rows": 32}]
    system.load(exported, choice)
    _alike(system.read(DOCUMENTS), tiny.analyze(DOCUMENTS))
    logits = [reading.label_logits() for _, reading in sorted(tiny.readings(DOCUMENTS))]  # type: ignore[union-attr]
    assert np.allclose(system.label_logits(DOCUMENTS), logits, atol=1e-4)


def test_sorting_changes_no_answer(exported: Given, tiny: Analyzer) -> None:
    run = session_runner(exported.graph, 1)
    reader = EncoderReader(exported.model, lambda cuts: by_length(cuts, at_once=2), run)
    _alike(reader.read(DOCUMENTS), tiny.analyze(DOCUMENTS))


def _alike(got: Sequence[Analysis], wanted: Sequence[Analysis]) -> None:
    assert [a.id for a in got] == [a.id for a in wanted]
    assert any(a.entities for a in wanted)
    for one, other in zip(got, wanted, strict=True):
        assert one.coverage == other.coverage
        spans = [[replace(e, score=0.0) for e in a.entities or ()] for a in (one, other)]
        assert spans[0] == spans[1]
        labels = [{label.label: label.score for label in a.labels or ()} for a in (one, other)]
        assert labels[0] == pytest.approx(labels[1], abs=2e-3)


def test_the_pipeline_reads_the_tokens_and_types_that_we_do(exported: Given, tiny: Analyzer) -> None:
    system = TransformersPipeline()
    system.load(exported, {"batch": 1})
    (stream,) = tiny.tokenizer.encode([Document("NORTH Korea said Oil\nin Vladivostok")])
    assert isinstance(stream, TokenStream)
    pipeline = system._pipeline
    inputs = list(pipeline.preprocess("NORTH Korea said Oil\nin Vladivostok", **pipeline._preprocess_params))
    assert len(inputs) == 1
    # The tokenizer of the tiny model frames nothing by itself.
    body = inputs[0]["special_tokens_mask"][0].numpy() == 0
    assert inputs[0]["input_ids"][0].numpy()[body].tolist() == stream.ids.tolist()
    assert inputs[0]["token_type_ids"][0].numpy()[body].tolist() == stream.type_ids.tolist()
    assert len(set(stream.type_ids)) > 3


def test_the_pipeline_gives_framing_tokens_no_type(exported: Given) -> None:
    system = TransformersPipeline()
    system.load(exported, {"batch": 1})
    backend = system._pipeline.tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    (inputs,) = system._pipeline.preprocess("Oil", **system._pipeline._preprocess_params)
    assert inputs["input_ids"][0].tolist()[:: len(inputs["input_ids"][0]) - 1] == [2, 3]
    assert inputs["token_type_ids"][0].tolist()[:: len(inputs["input_ids"][0]) - 1] == [0, 0]
    assert inputs["token_type_ids"][0].tolist()[1] > 0


def test_the_pipeline_gives_spans_of_text_and_title_and_no_labels(exported: Given) -> None:
    system = TransformersPipeline()
    system.load(exported, {"batch": 8})
    read = system.read(DOCUMENTS)
    assert [analysis.id for analysis in read] == ["long", "titled", "short"]
    assert all(analysis.labels is None for analysis in read)
    entities = [(d, e) for d, a in zip(DOCUMENTS, read, strict=True) for e in a.entities or ()]
    assert {entity.field for _, entity in entities} == {"title", "text"}
    for document, entity in entities:
        assert entity.text == (getattr(document, entity.field) or "")[entity.start : entity.end] != ""


def test_spacy_gives_spans_with_offsets_into_title_and_text(exported: Given, tmp_path: Path) -> None:
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "LOCATION", "pattern": "Russia"}])  # type: ignore[attr-defined]
    pipeline.to_disk(tmp_path / "model-best")
    system = SpacyCnn(str(tmp_path / "model-best"))
    assert system.choices(2) == [{"processes": 1}, {"processes": 2}]
    system.load(exported, {"processes": 1})
    (analysis,) = system.read([Document("Oil of Russia", "Russia said", "a")])
    places = [(e.field, e.start, e.end, e.text) for e in analysis.entities or ()]
    assert places == [("title", 0, 6, "Russia"), ("text", 7, 13, "Russia")]
    assert system.label_logits([Document("Oil")]).shape == (1, 16)


def test_spacy_is_trained_once_and_a_failure_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(command: Sequence[str], **streams: Any) -> subprocess.CompletedProcess[bytes]:
        result = CliRunner().invoke(app, command[command.index("baselines") :])
        streams["stdout"].write(str(result.exception).encode())
        return subprocess.CompletedProcess(command, result.exit_code)

    monkeypatch.setattr(prepare.subprocess, "run", in_this_process)
    said: list[str] = []
    missing = str(tmp_path / "no-corpus")
    with pytest.raises(SystemFailed, match="could not be trained"):
        train_spacy(tmp_path, [missing], 1, tmp_path / "train.log", said.append)
    assert "no-corpus" in (tmp_path / "train.log").read_text()
    (tmp_path / "spacy-cnn" / "model-best").mkdir(parents=True)
    train_spacy(tmp_path, [missing], 1, tmp_path / "train.log", said.append)
    assert len(said) == 1


# Figures


def test_a_token_costs_what_its_projections_do() -> None:
    mini_lm = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    assert roofline.flop_per_token(mini_lm) == 21_233_664


def test_a_pair_of_tokens_costs_what_attention_multiplies() -> None:
    mini_lm = {"hidden_size": 384, "num_hidden_layers": 6}
    assert roofline.attention_flop_per_pair(mini_lm) == 9_216


def test_the_rate_of_a_matrix_product_is_measured() -> None:
    found = roofline.rates(1)
    assert set(found) == {"fp32", "int8"}
    assert all(0.1 < rate < 1e5 for rate in found.values())


def test_spans_without_a_document_head_have_no_label_figures(schema: Schema) -> None:
    gold = [AnnotatedDocument(str(n), "Kim met Li", (), ("relief",)) for n in range(5)]
    said = {"entities": [[0, 3, "PERSON"]], "title_entities": [], "cats": []}
    ours = [{**said, "id": str(n), "logits": [0.0] * 16} for n in range(5)]
    theirs = [{**said, "id": str(n), "logits": None} for n in range(5)]
    found = accuracy(gold, theirs, ours, schema)
    assert found["label_macro_f1"] is None
    assert found["span_micro_f1"] == 0.0
    assert found["span_f1_against_embargo"] == 1.0
    assert found["equal_accuracy"] is True
    assert accuracy(gold, ours, ours, schema)["label_macro_f1"] is not None


def test_spans_that_are_worse_are_not_of_equal_accuracy(schema: Schema) -> None:
    gold = [AnnotatedDocument("a", "Kim met Li", (Span(0, 3, "PERSON"),), ("relief",))]
    row = {"id": "a", "title_entities": [], "cats": [], "logits": None}
    ours, theirs = [{**row, "entities": [[0, 3, "PERSON"]]}], [{**row, "entities": []}]
    assert accuracy(gold, theirs, ours, schema)["equal_accuracy"] is False
    assert accuracy(gold, ours, theirs, schema)["equal_accuracy"] is True


# A whole run


@pytest.fixture
def _fast_gemm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller.roofline, "rates", lambda threads: {"fp32": 10.0 * threads, "int8": 40.0})


@pytest.mark.usefixtures("_fast_gemm")
def test_a_run_reports_everyone_and_goes_on_without_those_that_fail(
    exported: Given,
    tmp_path: Path,
    schema: Schema,
    corpus: list[AnnotatedDocument],
    articles: list[AnnotatedDocument],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "ANSWER_SECONDS", 60.0)
    own, alone = (e for e in line_up([exported.model], Path(), lambda: None) if e.is_own)
    base = Entry("naive", "padded", "benchmarks.systems.onnx_runtime:OnnxRuntime", exported.model)

    def cannot_train() -> None:
        raise SystemFailed("no corpus")

    entries = [
        own,
        alone,
        replace(base, settings={"rows": [2]}),
        replace(base, name="no pins", requirements="no-such-file"),
        replace(base, name="not trained", before=cannot_train),
        replace(base, name="no class", place="benchmarks.systems.onnx_runtime:Missing"),
        replace(base, name="crashing", place=FAKE, settings={"fails": "crashing"}),
        replace(base, name="spans alone", place=FAKE, settings={"fails": "labels"}),
    ]
    pieces = slices(articles, QUICK, 13)
    setting = Setting(
        threads=min(2, available_cpus()),
        slices=pieces,
        dev=Slice(DEV, "mixed", [[document.document() for document in corpus[:4]]], 0),
        graph=exported.graph,
        calibration=exported.calibration,
        scratch=exported.scratch,
        venvs=tmp_path / "venvs",
        logs=tmp_path / "logs",
    )
    said: list[str] = []
    result = run(entries, setting, said.append)
    folder = ModelFolder.open(exported.model)
    header = {
        "cpu": "a CPU",
        "threads": 2,
        "quick": True,
        "dev_documents": 4,
        "model": {"name": "tiny", "version": "1"},
    }
    found = report(result, Reference(folder, corpus[:4], schema, pieces, header))
    failures = {name: row["failure"] for name, row in found["systems"].items() if row["failure"]}
    assert set(failures) == {"no pins", "not trained", "no class", "crashing"}
    assert "no-such-file" in failures["no pins"]
    assert failures["not trained"] == "no corpus"
    assert "Missing" in failures["no class"]
    assert "status 3" in failures["crashing"]
    rows = found["systems"]
    for name in (own.name, "naive", "spans alone"):
        assert set(rows[name]["slices"]) == {piece.name for piece in pieces}
        assert rows[name]["peak_rss_bytes"] > 1 << 23
        assert all(len(s["seconds_by_round"]) == QUICK.rounds for s in rows[name]["slices"].values())
    assert rows["naive"]["accuracy"]["span_f1_against_embargo"] > 0.99
    assert rows["naive"]["slices"]["mixed_8"]["setup"] == {"rows": 2}
    assert rows["spans alone"]["accuracy"]["label_macro_f1"] is None
    assert set(rows[alone.name]["slices"]) == {"mixed_8"}
    mixed = rows["naive"]["slices"]["mixed_8"]
    ours = rows[own.name]["slices"]["mixed_8"]["seconds_by_round"]
    ratios = [a / b for a, b in zip(mixed["seconds_by_round"], ours, strict=True)]
    assert mixed["times_as_fast_as_this"][own.name]["median"] == pytest.approx(np.median(ratios))
    tokens = found["slices"]["mixed_8"]
    assert tokens["encoder_tokens"] > tokens["document_tokens"] > tokens["words"]
    assert found["roofline"]["gemm_gflop_per_second_by_threads"]["1"] == {"fp32": 10.0, "int8": 40.0}
    reached = found["roofline"]["achieved_by_slice"]["mixed_8"]
    assert reached["with_attention"]["gflop_per_second"] > reached["projections"]["gflop_per_second"]

    save(found, tmp_path / "report")
    plot(found, tmp_path / "report")
    assert orjson.loads((tmp_path / "report" / "report.json").read_bytes())["systems"].keys() == rows.keys()
    written = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert written.startswith("A quick run")
    assert f"| {own.name} |" in written
    assert "Left out: not trained: no corpus" in written
    assert {p.name for p in (tmp_path / "report").glob("*.png")} == {"length.png", "accuracy.png"}
    assert table(found).row_count == len(entries)


@pytest.mark.usefixtures("_fast_gemm")
def test_nothing_is_compared_with_an_engine_that_fails(exported: Given, tmp_path: Path) -> None:
    entry = Entry("embargo broken", "", FAKE, exported.model, {"fails": "loading"})
    setting = Setting(
        threads=1,
        slices=[a_slice("short_1", 1, "short"), a_slice("mixed_1", 1)],
        dev=Slice(DEV, "mixed", [[Document("Kim")]], 0),
        graph=exported.graph,
        calibration=exported.calibration,
        scratch=exported.scratch,
        venvs=tmp_path,
        logs=tmp_path,
    )
    with pytest.raises(SystemFailed, match="embargo broken, which all are compared with: use: ValueError"):
        run([entry], setting, lambda line: None)


def test_a_checkpoint_without_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = ModelFolder.open(tiny_folder)
    with pytest.raises(SystemFailed, match=r"has no model\.safetensors"):
        checkpoint_folder(replace(folder, path=tmp_path), tmp_path)


def test_a_profile_says_what_each_operator_took(tiny_folder: Path) -> None:
    found = operators.profile(tiny_folder / "model.onnx", 2, 9, seconds=0.05)
    by_name = {row["operator"]: row for row in found["operators"]}
    assert by_name["MultiHeadAttention"]["nodes"] == 2
    assert sum(row["share"] for row in found["operators"]) == pytest.approx(1)
    assert all(row["milliseconds"] > 0 for row in found["operators"])
    assert found["tokens_per_second"] > 0
