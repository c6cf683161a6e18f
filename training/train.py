"""The training run, from documents to the best weights. Reads downward: data, model, loop."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from serving.analyzer import Analyzer
from serving.model_folder import file_sha256
from serving.tokens import Tokenizer
from training import loss
from training.backbone import choose_device, has_bfloat16, load_backbone
from training.checkpoint import Checkpoint, save_atomically
from training.config import TrainConfig
from training.data import Epochs, TrainingData
from training.evaluate import evaluate, read
from training.examples import Batcher, TrainingBatch
from training.learning_rate import share_of_rate
from training.metrics import MIN_GOLD
from training.model import JointModel, document_logits
from training.schema import Schema
from training.teacher import Teachers, teacher_files
from training.weights import TorchForward, draft_config, load_heads, source_fingerprint

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a line of what is going on."""

_LOSS_NAMES = ("tag_loss", "label_loss")


@dataclass(frozen=True, slots=True)
class Run:
    """What decides a run, and the folder of its checkpoints."""

    config: TrainConfig
    data: TrainingData
    schema: Schema
    source: str
    """What it starts from: "backbone", a model folder, a folder or a hub id."""
    folder: Path
    code: str = ""
    """Hash of the code, so that a run does not go on under another."""
    teachers: Sequence[str] = ()
    """Model folders that explain unlabelled documents."""

    def run_id(self) -> str:
        """Hash of everything that decides the run."""
        parts = [
            asdict(self.config), self.data.fingerprint(), self.source, source_fingerprint(self.source),
            self.schema.tags, list(self.schema.labels), self.code,
            [file_sha256(file) for file in teacher_files(self.teachers)],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(slots=True)
class State:
    """Where a run stands; all of it is in its checkpoint."""

    epoch: int = 0
    step_in_epoch: int = 0
    steps_done: int = 0
    best_score: float = -1.0
    best_epoch: int = -1
    tag_loss: float = 0.0
    """Sum over the steps of the epoch so far."""
    label_loss: float = 0.0
    """Sum over the steps of the epoch so far."""
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """One run. `run()` goes on from the checkpoint in its folder, if there is one of this run."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self.config, self.schema, self.dev = run.config, run.schema, run.data.dev
        self.folder = run.folder
        self.progress = progress
        self.device = choose_device()
        self.half = self.config.mixed_precision and has_bfloat16(self.device)
        torch.manual_seed(self.config.seed)

        self.backbone = load_backbone(run.source, self.config.dropout, self.config.layers)
        self.model = JointModel(
            self.backbone.encoder, len(self.schema.tags), len(self.schema.labels), self.config.dropout
        ).to(self.device)
        self.has_old_heads = load_heads(self.model, run.source, self.schema)
        self.tokenizer = Tokenizer(self.backbone.tokenizer)
        self.embargo_config = draft_config(self.config, self.schema, self.backbone)
        self.analyzer = Analyzer(
            self.embargo_config, self.tokenizer, TorchForward(self.model, self.device), threads=1
        )

        windows = self.embargo_config.window_shape()
        self.batcher = Batcher(
            self.backbone.special_tokens, windows, len(self.schema.labels), self.config.tokens_per_step
        )
        teachers = Teachers.load(run.teachers, self.schema, self.device) if run.teachers else None
        self.data = Epochs(run.data, self.tokenizer, self.schema, self.batcher, self.config, teachers)
        # Without any labelled document only spans are learned; the document head stays as it was.
        labels = [row for row in self.data.train.rows["labels"] if row is not None]
        weights = torch.tensor(labels or [[0.0] * len(self.schema.labels)])
        self.label_weights = loss.label_weights(weights, self.config.max_label_weight).to(self.device)

        tokens = max(1, sum(self.data.train.rows["length"]))
        least = -(-self.config.min_steps * self.config.tokens_per_step // tokens)
        self.epochs = max(self.config.epochs, least)
        self.steps = sum(len(self.data.plan(epoch).groups) for epoch in range(self.epochs))
        self.optimizer = self._optimizer()
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: share_of_rate(step, self.steps, self.config.warmup_share)
        )
        self.state = State()
        self.checkpoint = Checkpoint(
            run.folder / "checkpoint.pt", run.run_id(), self.model, self.optimizer, self.schedule
        )
        self._saved_at = time.monotonic()

    def run(self) -> State:
        """Train to the end or until early stopping ends it; the model holds the best weights then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.checkpoint.load(State())
        while self.state.epoch < self.epochs and not self._stalled():
            self._epoch()
            self._judge()
            self.state.epoch += 1
            self.state.step_in_epoch = 0
            self.checkpoint.save(self.state)
        best = torch.load(self.folder / "best.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(best)
        self.model.eval()
        return self.state

    def _epoch(self) -> None:
        self.model.train()
        plan = self.data.plan(self.state.epoch)
        state = self.state
        for group in range(state.step_in_epoch, len(plan.groups)):
            batch = self.batcher.batch(self.data.examples(plan, group)).to(self.device)
            tag_loss, label_loss = self._step(batch)
            state.step_in_epoch += 1
            state.steps_done += 1
            state.tag_loss += tag_loss
            state.label_loss += label_loss
            tags, labels = (getattr(state, name) / state.step_in_epoch for name in _LOSS_NAMES)
            line = f"epoch {state.epoch + 1}/{self.epochs}  tags {tags:.3f}  labels {labels:.3f}"
            self.progress(state.steps_done, self.steps, line)
            self._save_now_and_then()

    def _step(self, batch: TrainingBatch) -> tuple[float, float]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            outputs = self.model(*batch.inputs)
        tags, scores, values = (output[batch.owned].float() for output in outputs)
        tag_loss = loss.tag_loss(
            tags, batch.allowed, batch.taught, batch.soft_tags, self.config.label_smoothing
        )
        logits = document_logits(scores, values, batch.document_of, len(batch.labels))
        # Soft labels are as probable as they are: the teachers' own loss has weighed them already.
        weights = torch.where(batch.labels_soft[:, None], 1.0, self.label_weights)
        label_loss = loss.label_loss(logits, batch.labels, batch.labels_known, weights)
        total = tag_loss + self.config.label_loss_weight * label_loss
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(tag_loss.detach()), float(label_loss.detach())

    def _judge(self) -> None:
        """Score dev through the engine and keep the weights if they are the best so far.

        Weights that dev can say nothing about are kept too, so that the last ones ship.
        """
        self.model.eval()
        state = self.state
        data = read(self.analyzer, self.dev, self.schema)
        result = evaluate(self.analyzer, data, self.schema, cross_fit=True)
        spans, labels = result.spans.micro.f1, result.labels.macro_f1
        # A corpus of spans alone, or of labels alone, is judged by what it has.
        known = [score for score in (spans, labels) if not math.isnan(score)]
        score = sum(known) / len(known) if known else 0.0
        row = {"epoch": state.epoch + 1, "dev_span_f1": spans, "dev_label_f1": labels}
        for name in _LOSS_NAMES:
            row[name] = getattr(state, name) / max(1, state.step_in_epoch)
            setattr(state, name, 0.0)
        state.history.append(row)
        can_judge = result.spans.micro.gold > 0 or not math.isnan(labels)
        if score > state.best_score or not can_judge:
            state.best_score, state.best_epoch = score, state.epoch
            save_atomically(self.model.state_dict(), self.folder / "best.pt")
        line = f"epoch {state.epoch + 1}: dev span F1 {spans:.4f}, label macro-F1 {labels:.4f}"
        if not can_judge:
            line += f"; dev has no span, and no label {MIN_GOLD} times, to judge by: the last epoch is kept"
        self.progress(state.steps_done, self.steps, f"{line}\n")

    def _stalled(self) -> bool:
        return self.state.epoch - self.state.best_epoch > self.config.patience

    def _optimizer(self) -> torch.optim.AdamW:
        config = self.config
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if not name.startswith("encoder."):
                rate, decay = config.head_learning_rate, 0.0
            else:
                rate = config.encoder_learning_rate * config.layer_rate_decay ** self._below_top(name)
                # Biases and layer norms are not decayed, as in BERT.
                decay = 0.0 if name.endswith("bias") or "LayerNorm" in name else config.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
        # fused: one pass over the 12 million embedding weights instead of several.
        return torch.optim.AdamW(
            [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
            fused=True,
        )

    def _below_top(self, name: str) -> int:
        """How many layers a parameter of the encoder lies below the topmost; embeddings below all."""
        layers: int = self.model.encoder.config.num_hidden_layers
        at = re.search(r"\.layers?\.(\d+)\.", name)
        return layers - 1 - int(at[1]) if at else layers

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at > 60 * self.config.checkpoint_minutes:
            self.checkpoint.save(self.state)
            self._saved_at = time.monotonic()
