"""Between PyTorch and a model folder: weights in and out, and torch in the engine's place."""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from serving.model_folder import (
    FILES,
    EmbargoConfig,
    LabelConfig,
    Temperatures,
    TypeConfig,
    WindowConfig,
)
from serving.run import Batch, Forward, TokenOutputs
from training.backbone import Backbone, is_model_folder
from training.config import TrainConfig
from training.model import JointModel
from training.schema import Schema


def draft_config(config: TrainConfig, schema: Schema, backbone: Backbone) -> EmbargoConfig:
    """The config of a model that is not calibrated yet: thresholds 0.5, temperatures 1."""
    return EmbargoConfig(
        name="draft",
        version="0",
        graph_variant="torch",
        types=tuple(TypeConfig(name=n, definition=d) for n, d in schema.types.items()),
        labels=tuple(
            LabelConfig(name=n, axis=schema.axes[n], threshold=0.5, definition=d)
            for n, d in schema.labels.items()
        ),
        window=WindowConfig(size=config.window_size, stride=config.window_stride),
        special_tokens=backbone.special_tokens,
        temperatures=Temperatures(spans=1.0, labels=1.0),
    )


def torch_forward(model: JointModel, device: torch.device) -> Forward:
    """PyTorch in the place of ONNX Runtime, so that training judges through the engine."""

    def forward(batch: Batch) -> TokenOutputs:
        with torch.inference_mode():
            inputs = [torch.from_numpy(array).to(device) for array in batch]
            return TokenOutputs(*(output.float().cpu().numpy() for output in model(*inputs)))

    return forward


def save_weights(model: JointModel, path: Path) -> None:
    """Write fp16 safetensors under the names that `transformers` gives a token classifier."""
    prefix = model.encoder.base_model_prefix
    tensors = {
        _outside_name(name, prefix): tensor.detach().half().contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def load_heads(model: JointModel, source: str, schema: Schema) -> None:
    """Take the heads of a trained model folder, if its types and labels are those of `schema`."""
    if not is_model_folder(source):
        return
    tensors = load_file(Path(source) / FILES.weights)
    state = model.state_dict()
    heads = {
        name: tensors[_outside_name(name, model.encoder.base_model_prefix)]
        for name in state
        if not name.startswith("encoder.")
    }
    if _names(source) == (tuple(schema.types), tuple(schema.labels)):
        model.load_state_dict({name: tensor.float() for name, tensor in heads.items()}, strict=False)


def _names(source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from serving.model_folder import ModelFolder

    config = ModelFolder.open(source, verify=False).config
    return config.type_names(), config.label_set().names


def _outside_name(name: str, prefix: str) -> str:
    """`encoder.…` is `bert.…` outside, and the tag head is its `classifier`."""
    head, _, rest = name.partition(".")
    return {"encoder": f"{prefix}.{rest}", "tag_head": f"classifier.{rest}"}.get(head, name)


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` that a kill cannot leave half written."""
    temporary = path.with_suffix(".partial")
    torch.save(value, temporary)
    os.replace(temporary, path)


def round_to_half(tensor: Tensor) -> Tensor:
    """What is left of weights once they were stored as fp16."""
    return tensor.half().float()
