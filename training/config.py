"""The settings of a training run: one dataclass, overridden by a TOML file or by flags."""

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from serving.errors import TrainingError


@dataclass(frozen=True, slots=True)
class TrainConfig:
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
    weight_decay: float = 0.01
    warmup_share: float = 0.08
    """Share of the steps in which the rates rise; then they fall linearly to zero."""
    max_gradient_norm: float = 1.0
    dropout: float = 0.1

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

    @classmethod
    def from_toml(cls, path: Path) -> "TrainConfig":
        """Defaults with the keys of a TOML file put over them."""
        try:
            return cls().updated(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise TrainingError(f"{path} is no readable TOML file: {error}") from error

    def updated(self, values: dict[str, Any]) -> "TrainConfig":
        """A copy with other values. Raises TrainingError at an unknown key or a wrong type."""
        types = get_type_hints(type(self))
        for key, value in values.items():
            if key not in types:
                known = ", ".join(field.name for field in fields(self))
                raise TrainingError(f"unknown setting {key!r}; known are {known}")
            wanted: Any = types[key]
            if wanted is float:
                wanted = (int, float)
            elif wanted == tuple[str, ...]:
                wanted = list
            if not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool):
                expected = "list of strings" if wanted is list else types[key].__name__
                raise TrainingError(
                    f"setting {key} is {value!r}, a {type(value).__name__}; expected {expected}"
                )
            if key.endswith("_share") and not 0 <= value <= 1:
                raise TrainingError(f"setting {key} is {value}; expected a share from 0 to 1")
            if wanted is list and not all(isinstance(item, str) for item in value):
                raise TrainingError(f"setting {key} is {value}; expected a list of strings")
            if key == "patience" and value < 1:
                raise TrainingError(f"setting patience is {value}; expected 1 or more epochs")
            if key in ("documents", "layers") and value < 0:
                raise TrainingError(f"setting {key} is {value}; expected 0 for all, or a number")
        tuples = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        config = replace(self, **{**values, **tuples})
        if config.lower_case_share + config.upper_case_share > 1:
            raise TrainingError("lower_case_share and upper_case_share are together over 1")
        return config
