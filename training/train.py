"""The training run, from documents to the best weights. Reads downward: data, model, loop."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.tokens import Tokenizer
from training import loss
from training.backbone import load_backbone
from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.evaluate import evaluate, read
from training.examples import Batcher, Example, TrainingBatch, encode, in_one_case
from training.model import JointModel, document_logits
from training.schema import Schema
from training.weights import draft_config, load_heads, save_atomically, torch_forward

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a line of what is going on."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run learns from and is chosen by."""

    train: Sequence[AnnotatedDocument]
    dev: Sequence[AnnotatedDocument]
    partial: Sequence[AnnotatedDocument] = ()
    """Documents of corpora that annotate only some span types, and no labels."""

    def fingerprint(self) -> str:
        """SHA-256 over all documents, to tell one run from another."""
        digest = hashlib.sha256()
        for document in (*self.train, *self.dev, *self.partial):
            digest.update(document.to_json())
        return digest.hexdigest()


@dataclass(slots=True)
class State:
    """Where a run stands; all of it is in its checkpoint."""

    epoch: int = 0
    step_in_epoch: int = 0
    steps_done: int = 0
    best_score: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The documents of an epoch, the case each is shown in (None: its own), and the batches."""

    rows: datasets.Dataset
    cases: Sequence[str | None]
    groups: list[list[int]]

    def example(self, row: int) -> Example:
        """One document as it is shown."""
        example = Example.from_row(self.rows[row])
        case = self.cases[row]
        return in_one_case(example, case) if case else example


class Training:
    """One run. `run()` goes on from the checkpoint in `folder`, if there is one of this run."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        schema: Schema,
        source: str,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.config = config
        self.schema = schema
        self.data = data
        self.folder = folder
        self.progress = progress
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)

        self.backbone = load_backbone(source, config.dropout)
        self.model = JointModel(
            self.backbone.encoder, len(schema.tags), len(schema.labels), config.dropout
        ).to(self.device)
        load_heads(self.model, source, schema)
        self.tokenizer = Tokenizer(self.backbone.tokenizer)
        self.embargo_config = draft_config(config, schema, self.backbone)
        self.analyzer = Analyzer(
            self.embargo_config, self.tokenizer, torch_forward(self.model, self.device), threads=1
        )
        self.batcher = Batcher(
            self.analyzer.run,
            self.embargo_config.window_shape(),
            len(schema.labels),
            config.tokens_per_step,
        )

        self.examples, self.unreachable = encode(data.train, self.tokenizer, schema)
        self.partial, _ = encode(data.partial, self.tokenizer, schema)
        # Without any labelled document only spans are learned; the document head stays as it was.
        labels = [row for row in self.examples["labels"] if row is not None] or [[0.0] * len(schema.labels)]
        weights = loss.label_weights(torch.tensor(labels), config.max_label_weight)
        self.label_weights = weights.to(self.device)
        tokens = sum(self.examples["length"])
        self.epochs = max(config.epochs, -(-config.min_steps * config.tokens_per_step // tokens))
        self.steps = sum(len(self._plan(epoch).groups) for epoch in range(self.epochs))
        self.optimizer = self._optimizer()
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.state = State()
        self._saved_at = time.monotonic()
        self.run_id = hashlib.sha256(
            json.dumps([asdict(config), data.fingerprint(), source, schema.tags]).encode()
        ).hexdigest()

    def run(self) -> State:
        """Train to the end or to the last epoch that early stopping allows; keep the best weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        while self.state.epoch < self.epochs and not self._stalled():
            self._epoch()
            self._judge()
            self.state.epoch += 1
            self.state.step_in_epoch = 0
            self._save()
        best = torch.load(self.folder / "best.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(best)
        self.model.eval()
        return self.state

    def _epoch(self) -> None:
        self.model.train()
        plan = self._plan(self.state.epoch)
        running: list[tuple[float, float]] = []
        for group in plan.groups[self.state.step_in_epoch :]:
            batch = self.batcher.batch([plan.example(row) for row in group])
            running.append(self._step(batch.to(self.device)))
            self.state.step_in_epoch += 1
            self.state.steps_done += 1
            tags, labels = np.mean(running[-50:], axis=0)
            self.progress(
                self.state.steps_done,
                self.steps,
                f"epoch {self.state.epoch + 1}/{self.epochs}  tags {tags:.3f}  labels {labels:.3f}",
            )
            self._save_now_and_then()
        if running:
            tags, labels = np.mean(running, axis=0)
            self.state.history.append(
                {"epoch": self.state.epoch + 1, "tag_loss": float(tags), "label_loss": float(labels)}
            )

    def _step(self, batch: TrainingBatch) -> tuple[float, float]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = self.model(*batch.inputs)
        tags, scores, values = (output[batch.owned].float() for output in outputs)
        tag_loss = loss.tag_loss(tags, batch.allowed)
        logits = document_logits(scores, values, batch.document_of, len(batch.labels))
        label_loss = loss.label_loss(logits, batch.labels, batch.labels_known, self.label_weights)
        total = tag_loss + self.config.label_loss_weight * label_loss
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(tag_loss.detach()), float(label_loss.detach())

    def _judge(self) -> None:
        """Score dev through the engine and keep the weights if they are the best so far."""
        self.model.eval()
        data = read(self.analyzer, self.data.dev, self.schema)
        result = evaluate(self.analyzer, data, self.schema, cross_fit=True)
        score = (result.spans.micro.f1 + result.labels.macro_f1) / 2
        if self.state.history and self.state.history[-1]["epoch"] == self.state.epoch + 1:
            self.state.history[-1] |= {
                "dev_span_f1": result.spans.micro.f1,
                "dev_label_f1": result.labels.macro_f1,
            }
        if score > self.state.best_score:
            self.state.best_score = score
            self.state.best_epoch = self.state.epoch
            save_atomically(self.model.state_dict(), self.folder / "best.pt")
        self.progress(
            self.state.steps_done,
            self.steps,
            f"epoch {self.state.epoch + 1}: dev span F1 {result.spans.micro.f1:.4f}, "
            f"label macro-F1 {result.labels.macro_f1:.4f}\n",
        )

    def _stalled(self) -> bool:
        return self.state.epoch - self.state.best_epoch > self.config.patience

    def _plan(self, epoch: int) -> "EpochPlan":
        """What an epoch shows and in which order: the same for the same seed, also after a resume."""
        random = np.random.default_rng([self.config.seed, epoch])
        rows = self.examples
        if len(self.partial) and epoch < self.config.partial_epochs:
            count = min(self.config.partial_documents, len(self.partial))
            drawn = self.partial.shuffle(generator=random).select(range(count))
            rows = datasets.concatenate_datasets([rows, drawn])
        lower, upper = self.config.lower_case_share, self.config.upper_case_share
        drawn_cases = random.choice(3, len(rows), p=[1 - lower - upper, lower, upper])
        cases = [(None, "lower", "upper")[case] for case in drawn_cases]
        return EpochPlan(rows, cases, self.batcher.groups(np.array(rows["length"]), random))

    def _optimizer(self) -> torch.optim.AdamW:
        heads = [p for n, p in self.model.named_parameters() if not n.startswith("encoder.")]
        encoder = list(self.model.encoder.named_parameters())
        # Biases and layer norms are not decayed, as in BERT.
        plain = [p for n, p in encoder if n.endswith("bias") or "LayerNorm" in n]
        decayed = [p for n, p in encoder if not (n.endswith("bias") or "LayerNorm" in n)]
        rate = self.config.encoder_learning_rate
        # fused: one pass over the 12 million embedding weights instead of several.
        return torch.optim.AdamW(
            [
                {"params": decayed, "lr": rate, "weight_decay": self.config.weight_decay},
                {"params": plain, "lr": rate, "weight_decay": 0.0},
                {"params": heads, "lr": self.config.head_learning_rate, "weight_decay": 0.0},
            ],
            fused=True,
        )

    def _rate(self, step: int) -> float:
        warmup = max(1, round(self.config.warmup_share * self.steps))
        return min((step + 1) / warmup, max(0.0, (self.steps - step) / (self.steps - warmup + 1)))

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at > 60 * self.config.checkpoint_minutes:
            self._save()
            self._saved_at = time.monotonic()

    def _save(self) -> None:
        save_atomically(
            {
                "run_id": self.run_id,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "random": torch.get_rng_state(),
                "state": asdict(self.state),
            },
            self.folder / "checkpoint.pt",
        )

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        saved = torch.load(path, map_location=self.device, weights_only=True)
        if saved["run_id"] != self.run_id:
            raise TrainingError(
                f"{path} belongs to a run with other data, settings or start; "
                "go on with those, choose another --name, or start over with --restart."
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"].cpu())
        self.state = State(**saved["state"])
