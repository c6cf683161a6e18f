"""The settings of a training run: one dataclass, overridden by a TOML file or by flags."""

from dataclasses import dataclass

from serving.errors import TrainingError
from training.toml_config import TomlConfig


@dataclass(frozen=True, slots=True)
class TrainConfig(TomlConfig):
    """Defaults of `make train`. Unknown keys and wrong types in a TOML file raise."""

    seed: int = 13
    documents: int = 0
    """Train on so many documents, drawn by the seed, as learning curves do; 0: all."""
    epochs: int = 5
    """Passes over the fully annotated documents. In a run of eight, dev labels were best after
    the fifth and overfitted from there (docs/LOG.md); spans gained half a point more."""
    min_steps: int = 600
    """A small corpus is passed more often: a hundred documents need more than ten epochs."""
    patience: int = 4
    """Epochs without a better dev score before the run stops."""

    tokens_per_step: int = 2048
    """Tokens of whole documents, before overlap and padding; a longer document is a step of its
    own. Small steps: a few hundred documents give few steps an epoch, and on a CPU a step of
    2,048 tokens is already as fast per token as a larger one."""
    mixed_precision: bool = True
    """Multiply in bfloat16 where the processor has instructions for it."""
    window_size: int = 256
    """The backbone was last trained at 256; attention over 512 costs a tenth more a token."""
    window_stride: int = 190
    """So that 64 tokens are shared and each token has 32 of context on its shorter side."""

    encoder_learning_rate: float = 2e-4
    """Four times BERT-base's usual: the encoder is half as wide and deep. docs/LOG.md compares."""
    head_learning_rate: float = 1e-3
    """The heads start from nothing."""
    layer_rate_decay: float = 1.0
    """Each layer learns so many times as fast as the one above it; 1: all alike."""
    weight_decay: float = 0.01
    warmup_share: float = 0.08
    """Share of the steps in which the rates rise; then they fall linearly to zero."""
    max_gradient_norm: float = 1.0
    dropout: float = 0.1

    label_smoothing: float = 0.0
    """Share of the tag loss that wants all tags alike probable."""
    label_loss_weight: float = 1.0
    """Document loss against token loss; both are means, of similar size at the start."""
    max_label_weight: float = 4.0
    """Rare labels weigh sqrt(negatives / positives), at most this."""

    partial_epochs: int = 2
    """Corpora that annotate only some types are noisier: they come first and then no more."""
    partial_documents: int = 2500
    """Documents drawn from them in each of those epochs."""

    unlabelled_documents: int = 2000
    """Documents without annotation that teachers explain in each epoch, others in every one."""
    short_share: float = 0.0
    """Share of them that is cut to one to three sentences (training/unlabelled.py)."""
    layers: int = 0
    """Keep so many layers of the encoder, evenly spread, as smaller students do; 0: all."""

    lower_case_share: float = 0.06
    upper_case_share: float = 0.06
    """Documents shown as if typed in one case, so that case is evidence and not a crutch."""

    names_share: float = 0.0
    """Documents shown with other names (training/augment.py)."""
    name_types: tuple[str, ...] = ("PERSON", "ORG", "VESSEL", "FACILITY")
    """Types whose names are taken from other training documents, where there is no gazetteer."""
    gazetteer: str = ""
    """File of names by type, in the place of those of the training documents."""
    typography_share: float = 0.0
    """Documents shown with straight quotes and plain hyphens."""
    wrap_share: float = 0.0
    """Documents shown with hard line breaks."""
    drop_title_share: float = 0.0
    """Documents shown without their title."""

    checkpoint_minutes: float = 5.0
    """How much work a kill may cost."""

    def check(self) -> None:
        """Raises TrainingError at values that no run can have."""
        if self.patience < 1:
            raise TrainingError(f"setting patience is {self.patience}; expected 1 or more epochs")
        for key in ("documents", "layers"):
            if getattr(self, key) < 0:
                raise TrainingError(f"setting {key} is {getattr(self, key)}; expected 0 for all, or a number")
        if self.lower_case_share + self.upper_case_share > 1:
            raise TrainingError("lower_case_share and upper_case_share are together over 1")
