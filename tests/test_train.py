"""A training run learns, stops and goes on where it was killed, and gives the same weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from serving.errors import TrainingError
from tests.conftest import quiet
from training.config import TrainConfig
from training.corpus import AnnotatedDocument, Span
from training.data import TrainingData
from training.gazetteer import Gazetteer
from training.schema import Schema
from training.train import Run, Training


class Killed(Exception):
    pass


def training(
    folder: Path, config: TrainConfig, corpus: list[AnnotatedDocument], schema: Schema, source: Path
) -> Training:
    partial = [replace(d, cats=None, known_types=frozenset({"LOCATION"})) for d in corpus[:4]]
    data = TrainingData(train=corpus, dev=corpus[:4], partial=partial)
    return Training(Run(config, data, schema, str(source), folder), quiet)


def test_a_run_learns_its_corpus_by_heart(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    backbone_folder: Path,
) -> None:
    config = replace(tiny_config, epochs=60, lower_case_share=0.0, upper_case_share=0.0, patience=60)
    run = training(tmp_path, config, corpus, schema, backbone_folder)
    state = run.run()
    assert state.history[-1]["tag_loss"] < 0.2 * state.history[0]["tag_loss"]
    assert max(row["dev_span_f1"] for row in state.history) > 0.9
    assert [row["epoch"] for row in state.history] == list(range(1, len(state.history) + 1))


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    backbone_folder: Path,
) -> None:
    config = replace(tiny_config, checkpoint_minutes=0.0, dropout=0.1, names_share=0.5, wrap_share=0.5)
    whole = training(tmp_path / "whole", config, corpus, schema, backbone_folder)
    undisturbed = whole.run()

    for kill_at in (2, whole.steps - 2):
        broken = training(tmp_path / "broken", config, corpus, schema, backbone_folder)

        def kill(done: int, total: int, line: str, at: int = kill_at) -> None:
            if done == at and not line.endswith("\n"):
                raise Killed

        broken.progress = kill
        with pytest.raises(Killed):
            broken.run()
    resumed = training(tmp_path / "broken", config, corpus, schema, backbone_folder)
    state = resumed.run()

    assert repr(state) == repr(undisturbed)  # as text, for NaN is not equal to NaN
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_documents_are_shown_changed_and_otherwise_each_epoch(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    backbone_folder: Path,
) -> None:
    document = AnnotatedDocument("n", "Kxq Oil Bank said two", (Span(0, 12, "ORG"),), ("not_sanctions",))
    config = replace(tiny_config, names_share=1.0, lower_case_share=0.0, upper_case_share=0.0)
    gazetteer = Gazetteer({"ORG": {"x": ["Coal Port", "Port of Russia", "Security Council Ship"]}})
    run = Run(
        config, TrainingData([document], corpus[:4], (), gazetteer), schema, str(backbone_folder), tmp_path
    )
    epochs = Training(run, quiet).data
    shown = [epochs.examples(epochs.plan(epoch), 0)[0] for epoch in (0, 1, 2, 3, 4, 0)]
    texts = [tuple(example.stream.ids) for example in shown]
    assert len(set(texts)) > 1
    assert texts[0] == texts[-1]
    for example in shown:
        kinds = [schema.tags[tag] for tag in example.tags]
        assert kinds[0] == "B-ORG"
        assert kinds[-2:] == ["O", "O"]
        assert set(kinds[1:-2]) == {"I-ORG"}


def test_lower_layers_learn_more_slowly_where_that_is_asked(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    backbone_folder: Path,
) -> None:
    config = replace(tiny_config, layer_rate_decay=0.5)
    run = training(tmp_path, config, corpus, schema, backbone_folder)
    rate_of = {id(p): group["initial_lr"] for group in run.optimizer.param_groups for p in group["params"]}
    rates = {name: rate_of[id(p)] / 2e-3 for name, p in run.model.named_parameters()}
    assert rates["encoder.encoder.layer.1.output.dense.weight"] == 1
    assert rates["encoder.encoder.layer.0.output.LayerNorm.bias"] == 0.5
    assert rates["encoder.embeddings.word_embeddings.weight"] == 0.25
    assert rates["tag_head.weight"] == config.head_learning_rate / 2e-3


def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    backbone_folder: Path,
) -> None:
    config = replace(tiny_config, epochs=1)
    training(tmp_path, config, corpus, schema, backbone_folder).run()
    other = training(tmp_path, replace(config, seed=99), corpus, schema, backbone_folder)
    with pytest.raises(TrainingError, match="--restart"):
        other.run()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 1.5", "expected int"),
        ("unknown = 1", "unknown setting"),
        ("epochs =", "TOML"),
        ("dropout = true", "expected float"),
        ("mixed_precision = 1", "expected bool"),
        ("names_share = 1.5", "share from 0 to 1"),
        ("name_types = [1]", "list of strings"),
        ("documents = -1", "0 for all"),
        ("layers = -1", "0 for all"),
        ("patience = 0", "1 or more"),
        ("lower_case_share = 0.6\nupper_case_share = 0.6", "together over 1"),
        ("name_types = 'PERSON'", "expected list of strings"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        TrainConfig.from_toml(path)


def test_settings_override_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("epochs = 3\nencoder_learning_rate = 1e-5\nname_types = ['SHIP']\n")
    config = TrainConfig.from_toml(path)
    assert config.name_types == ("SHIP",)
    assert (config.epochs, config.encoder_learning_rate, config.seed) == (3, 1e-5, TrainConfig().seed)


def test_what_decides_a_run_is_in_its_id(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    tiny_folder: Path,
) -> None:
    data = TrainingData(train=corpus[4:], dev=corpus[:4])
    run = Run(tiny_config, data, schema, "backbone", tmp_path)
    partial = replace(corpus[0], known_types=frozenset({"ORG"}))
    others = [
        replace(run, source="other"),
        replace(run, code="x"),
        replace(run, config=replace(tiny_config, seed=1)),
        replace(run, schema=replace(schema, labels=dict(reversed(schema.labels.items())))),
        replace(run, data=TrainingData(train=corpus[3:], dev=corpus[:3])),
        replace(run, teachers=[str(tiny_folder)]),
        replace(run, data=replace(data, unlabelled=corpus[:1])),
        replace(run, data=replace(data, partial=[partial])),
        replace(run, data=replace(data, gazetteer=Gazetteer({"ORG": {"x": ["Acme"]}}))),
        replace(run, data=replace(data, partial=[replace(partial, known_types=frozenset({"VESSEL"}))])),
    ]
    assert len({other.run_id() for other in [run, *others]}) == 1 + len(others)


@pytest.mark.parametrize("known_types", [frozenset[str](), None])
def test_where_dev_can_judge_nothing_the_last_epoch_is_kept(
    tmp_path: Path,
    tiny_config: TrainConfig,
    corpus: list[AnnotatedDocument],
    schema: Schema,
    backbone_folder: Path,
    known_types: frozenset[str] | None,
) -> None:
    dev = [replace(d, entities=(), cats=None, known_types=known_types) for d in corpus[:4]]
    data = TrainingData(corpus, dev)
    lines: list[str] = []
    run = Run(replace(tiny_config, epochs=4, patience=1), data, schema, str(backbone_folder), tmp_path)
    state = Training(run, lambda done, total, line: lines.append(line)).run()
    assert (len(state.history), state.best_epoch) == (4, 3)
    assert sum("the last epoch is kept" in line for line in lines) == 4
