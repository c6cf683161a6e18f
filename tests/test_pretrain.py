"""Pre-training hides whole words, goes on where it was killed, and leaves an encoder to train from."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from transformers import DistilBertConfig, DistilBertModel

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.model_folder import SpecialTokens, file_sha256
from serving.results import Document
from serving.tokens import TokenStream
from tests.conftest import quiet
from training.backbone import load_backbone
from training.manifest import Provenance
from training.masking import TextWindows
from training.pretrain import PretrainConfig, Pretraining

SPECIAL = SpecialTokens(cls=2, sep=3, pad=0)
TEXTS = [
    Document(f"The bank of Russia said on Monday two tankers listed {n} firms in the port") for n in range(40)
]


@pytest.fixture
def config() -> PretrainConfig:
    return PretrainConfig(
        tokens=1024, tokens_per_step=64, window_size=16, learning_rate=5e-3, checkpoint_minutes=0.0
    )


@pytest.fixture
def streams(tiny: Analyzer) -> list[TokenStream]:
    return [stream for stream in tiny.tokenizer.encode(TEXTS) if isinstance(stream, TokenStream)]


def run(config: PretrainConfig, source: Path, folder: Path) -> Pretraining:
    return Pretraining(config, TEXTS, str(source), folder)


def test_windows_hold_all_text_in_order_in_frames(streams: list[TokenStream]) -> None:
    windows = TextWindows.of(streams, 16, SPECIAL)
    whole = np.concatenate([np.append(stream.ids, SPECIAL.sep) for stream in streams])
    inner = windows.ids[:, 1:-1].ravel()
    np.testing.assert_array_equal(inner, whole[: len(inner)])
    assert len(whole) - len(inner) < 14
    assert set(windows.ids[:, 0]) == {SPECIAL.cls}
    assert set(windows.ids[:, -1]) == {SPECIAL.sep}
    frames = windows.ids == SPECIAL.sep
    frames[:, 0] = True
    assert set(windows.word_of[frames]) == {-1}
    assert (windows.word_of[~frames] >= 0).all()


def test_whole_words_are_hidden_and_nothing_else_changes(streams: list[TokenStream]) -> None:
    windows = TextWindows.of(streams, 32, SPECIAL)
    chosen = np.arange(len(windows))
    batch = windows.batch(chosen, np.random.default_rng(0), share=0.3, mask=4, vocabulary=50)
    hidden = np.zeros(windows.ids.shape, dtype=bool)
    hidden[batch.rows.numpy(), batch.columns.numpy()] = True
    np.testing.assert_array_equal(batch.ids.numpy()[~hidden], windows.ids[~hidden])
    np.testing.assert_array_equal(batch.gold.numpy(), windows.ids[hidden])
    np.testing.assert_array_equal(batch.type_ids.numpy(), windows.type_ids)
    for row in range(len(windows)):
        for word in set(windows.word_of[row]) - {-1}:
            assert len(set(hidden[row][windows.word_of[row] == word])) == 1
    assert not hidden[windows.word_of == -1].any()
    assert 0.2 < hidden.mean() < 0.4
    assert 0.7 < (batch.ids.numpy()[hidden] == 4).mean() < 0.9


def test_it_learns_and_goes_on_where_it_was_killed(
    config: PretrainConfig, backbone_folder: Path, tmp_path: Path
) -> None:
    whole = run(config, backbone_folder, tmp_path / "whole")
    undisturbed = whole.run(quiet)
    losses = [row["masked_loss"] for row in undisturbed.history]
    assert losses[-1] < 0.8 * losses[0]

    def kill(done: int, total: int, line: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, backbone_folder, tmp_path / "broken").run(kill)
    again = run(config, backbone_folder, tmp_path / "broken")
    assert again.run(quiet) == undisturbed
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)

    with pytest.raises(TrainingError, match="other data, settings"):
        run(replace(config, learning_rate=1e-3), backbone_folder, tmp_path / "broken").run(quiet)


def test_the_written_encoder_is_one_to_train_from(
    config: PretrainConfig, backbone_folder: Path, tmp_path: Path
) -> None:
    made = run(config, backbone_folder, tmp_path / "run")
    state = made.run(quiet)
    made.write(tmp_path / "encoder", state, Provenance.now("embargo pretrain", 13, "backbone", {}))
    loaded = load_backbone(str(tmp_path / "encoder"), dropout=0.0)
    assert loaded.special_tokens == made.backbone.special_tokens
    weights = made.model.encoder.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.encoder.state_dict().items())
    notes = orjson.loads((tmp_path / "encoder" / "pretraining.json").read_bytes())
    assert notes["settings"]["tokens"] == config.tokens
    assert notes["command"] == "embargo pretrain"
    assert notes["weights_sha256"] == file_sha256(tmp_path / "encoder" / "model.safetensors")
    assert Provenance.now("embargo train", 13, str(tmp_path / "encoder"), {}).pretraining == notes


def test_an_encoder_without_token_types_is_refused(
    config: PretrainConfig, backbone_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(backbone_folder, tmp_path / "distil"))
    small = DistilBertConfig(vocab_size=200, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertModel(small).save_pretrained(folder)
    with pytest.raises(TrainingError, match="DistilBertModel, which takes no token types"):
        run(config, folder, tmp_path / "run")


def test_too_little_text_and_wrong_settings_are_named(
    config: PretrainConfig, backbone_folder: Path, tmp_path: Path, streams: list[TokenStream]
) -> None:
    with pytest.raises(TrainingError, match="expected at least 8190, one window"):
        TextWindows.of(streams, 8192, SPECIAL)
    with pytest.raises(TrainingError, match="each to be at most the next"):
        config.updated({"tokens_per_step": 8})
