"""Masked-language pre-training: the encoder reads text of the field before it is taught to mark it.

Whole words are hidden, and every token keeps what its case and layout say (serving/tokens.py):
from "a capitalised word stood here" the encoder learns what case is worth.
"""

import hashlib
import inspect
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import orjson
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from serving.errors import TrainingError
from serving.model_folder import FILES, file_sha256
from serving.results import Document
from serving.tokens import Tokenizer, TokenStream
from training.backbone import choose_device, has_bfloat16, load_backbone
from training.checkpoint import Checkpoint
from training.learning_rate import share_of_rate
from training.manifest import PRETRAINING, Provenance, environment
from training.masking import MaskedBatch, TextWindows
from training.toml_config import TomlConfig
from training.train import Progress
from training.weights import source_fingerprint

_ENCODED_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class PretrainConfig(TomlConfig):
    """Defaults of `embargo pretrain`."""

    seed: int = 13
    tokens: int = 30_000_000
    """The budget: tokens read, the same text again and again if there is less of it."""
    tokens_per_step: int = 8192
    window_size: int = 256
    learning_rate: float = 4e-4
    """Half of what encoders of this size are trained from nothing with: this one has read before."""
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    dropout: float = 0.1
    hidden_share: float = 0.15
    """Share of the words that are hidden."""
    max_gradient_norm: float = 1.0
    mixed_precision: bool = True
    """Multiply in bfloat16 where the processor has instructions for it."""
    checkpoint_minutes: float = 5.0
    """How much work a kill may cost."""

    def check(self) -> None:
        """Raises TrainingError at values that no run can have."""
        if not 3 <= self.window_size <= self.tokens_per_step <= self.tokens:
            raise TrainingError(
                f"window_size {self.window_size}, tokens_per_step {self.tokens_per_step}, tokens "
                f"{self.tokens}; expected each to be at most the next, and window_size 3 or more."
            )


class MaskedModel(nn.Module):
    """An encoder and a head that says which token stood where one is hidden."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        vocabulary, width = self.words.shape
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    @property
    def words(self) -> Tensor:
        """*Shape:* (vocabulary, width)."""
        weight: Tensor = self.encoder.get_input_embeddings().get_parameter("weight")
        return weight

    def forward(self, batch: MaskedBatch) -> Tensor:
        """*Shape:* -> (hidden tokens, vocabulary)."""
        outputs = self.encoder(
            input_ids=batch.ids, token_type_ids=batch.type_ids, attention_mask=torch.ones_like(batch.ids)
        )
        hidden = outputs.last_hidden_state[batch.rows, batch.columns]
        hidden = self.norm(functional.gelu(self.transform(hidden)))
        # The embeddings are the output layer too: what is learned here reaches them.
        return functional.linear(hidden, self.words, self.bias)


@dataclass(slots=True)
class State:
    """Where a run stands; all of it is in its checkpoint."""

    steps_done: int = 0
    loss: float = 0.0
    """Sum over the steps since the last row of `history`."""
    history: list[dict[str, float]] = field(default_factory=list)


class Pretraining:
    """One run over `texts`. `run()` goes on from the checkpoint in `folder`, if there is one of this run."""

    def __init__(
        self, config: PretrainConfig, texts: Sequence[Document], source: str, folder: Path, code: str = ""
    ) -> None:
        self.config, self.folder = config, folder
        self.device = choose_device()
        torch.manual_seed(config.seed)
        self.backbone = load_backbone(source, config.dropout)
        self.model = MaskedModel(self.backbone.encoder).to(self.device).train()
        mask = self.backbone.tokenizer.token_to_id("[MASK]")
        if mask is None:
            raise TrainingError(f"{source} has no [MASK] token; expected an encoder like BERT.")
        if "token_type_ids" not in inspect.signature(self.backbone.encoder.forward).parameters:
            raise TrainingError(
                f"{source} is a {type(self.backbone.encoder).__name__}, which takes no token types, and case "
                "is learned through them; expected an encoder like BERT."
            )
        self.mask = mask
        streams = _streams(texts, Tokenizer(self.backbone.tokenizer))
        self.unreadable = len(texts) - len(streams)
        """Texts that are left out: empty, or no valid Unicode."""
        self.windows = TextWindows.of(streams, config.window_size, self.backbone.special_tokens)
        self.steps = config.tokens // config.tokens_per_step
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: share_of_rate(step, self.steps, config.warmup_share)
        )
        self.half = config.mixed_precision and has_bfloat16(self.device)
        decided = [asdict(config), source, source_fingerprint(source), code]
        run_id = hashlib.sha256(json.dumps(decided).encode())
        run_id.update(self.windows.ids.tobytes())
        run_id.update(self.windows.type_ids.tobytes())
        self.checkpoint = Checkpoint(
            folder / "checkpoint.pt", run_id.hexdigest(), self.model, self.optimizer, self.schedule
        )

    def run(self, progress: Progress) -> State:
        """Read the budget of tokens; the encoder holds the weights then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self.checkpoint.load(State())
        progress(
            state.steps_done,
            self.steps,
            f"{len(self.windows)} windows of {self.config.window_size} tokens, {self.unreadable} texts "
            f"that cannot be read left out; {self.steps} steps on {self.device}\n",
        )
        row_every = max(1, self.steps // 50)
        saved_at = time.monotonic()
        while state.steps_done < self.steps:
            state.loss += self._step(self._batch(state.steps_done))
            state.steps_done += 1
            if state.steps_done % row_every == 0:
                state.history.append({"step": state.steps_done, "masked_loss": state.loss / row_every})
                state.loss = 0.0
            line = f"masked loss {state.history[-1]['masked_loss']:.3f}" if state.history else "warming up"
            progress(state.steps_done, self.steps, line)
            if time.monotonic() - saved_at > 60 * self.config.checkpoint_minutes:
                self.checkpoint.save(state)
                saved_at = time.monotonic()
        self.checkpoint.save(state)
        return state

    def write(self, folder: Path, state: State, provenance: Provenance) -> None:
        """Write the encoder as `transformers` has it, for `embargo train --from`.

        The folder appears only when it is complete.
        """
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self.model.encoder.save_pretrained(partial)
        self.backbone.tokenizer.save(str(partial / FILES.tokenizer))
        (partial / FILES.tokenizer_settings).write_bytes(
            orjson.dumps(self.backbone.tokenizer_settings) + b"\n"
        )
        made = {
            "command": provenance.command,
            "start": provenance.backbone,
            "data": provenance.data,
            "code": provenance.code,
            **environment(),
            "device": self.device.type,
            "settings": self.config,
            "masked_loss": state.history,
            "weights_sha256": file_sha256(partial / FILES.weights),
        }
        (partial / PRETRAINING).write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n")
        os.replace(partial, folder)

    def _batch(self, step: int) -> MaskedBatch:
        """The windows of a step: all have their turn before one comes again."""
        config = self.config
        size = config.tokens_per_step // config.window_size
        turns = np.arange(step * size, (step + 1) * size)
        passes, places = np.divmod(turns, len(self.windows))
        orders = {
            n: np.random.default_rng([config.seed, n]).permutation(len(self.windows)) for n in {*passes}
        }
        chosen = np.array([orders[n][place] for n, place in zip(passes, places, strict=True)])
        random = np.random.default_rng([config.seed, step, 1])
        vocabulary = self.backbone.tokenizer.get_vocab_size()
        return self.windows.batch(chosen, random, config.hidden_share, self.mask, vocabulary)

    def _step(self, batch: MaskedBatch) -> float:
        batch = MaskedBatch(*(tensor.to(self.device) for tensor in batch))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits = self.model(batch)
        loss = functional.cross_entropy(logits.float(), batch.gold)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def _streams(texts: Sequence[Document], tokenizer: Tokenizer) -> list[TokenStream]:
    """Those that can be read."""
    return [
        stream
        for at in range(0, len(texts), _ENCODED_TOGETHER)
        for stream in tokenizer.encode(texts[at : at + _ENCODED_TOGETHER])
        if isinstance(stream, TokenStream)
    ]
