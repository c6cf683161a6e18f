"""Between PyTorch and a model folder: weights in and out, and torch in the engine's place."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.forward import Batch, TokenOutputs
from serving.model_folder import (
    FILES,
    EmbargoConfig,
    LabelConfig,
    ModelFolder,
    Temperatures,
    TypeConfig,
    WindowConfig,
    file_sha256,
)
from serving.tokens import Tokenizer
from serving.windows import WindowShape
from training.backbone import Backbone, is_model_folder, load_backbone
from training.config import TrainConfig
from training.model import JointModel
from training.schema import Schema, schema_of_model


def draft_config(config: TrainConfig, schema: Schema, backbone: Backbone) -> EmbargoConfig:
    """The config of a model that is not calibrated yet: thresholds 0.5, temperatures 1."""
    try:
        WindowShape(config.window_size, config.window_stride)
    except ValueError as error:
        raise TrainingError(f"window_size and window_stride: {error}.") from error
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


class TorchForward:
    """PyTorch in the place of ONNX Runtime, so that training judges through the engine."""

    pads = True

    def __init__(self, model: JointModel, device: torch.device) -> None:
        self._model, self._device = model, device

    def __call__(self, batch: Batch) -> TokenOutputs:
        """Run."""
        with torch.inference_mode():
            inputs = [torch.from_numpy(array).to(self._device) for array in batch]
            return TokenOutputs(*(output.float().cpu().numpy() for output in self._model(*inputs)))


def torch_analyzer(folder: ModelFolder, device: torch.device) -> Analyzer:
    """The engine over PyTorch, for a folder with weights on a machine with a GPU."""
    model, backbone, _ = load_trained(folder)
    forward = TorchForward(model.eval().to(device), device)
    tokenizer = Tokenizer(backbone.tokenizer)
    # Few large passes: on a GPU a small one costs as much.
    return Analyzer(folder.config, tokenizer, forward, threads=1, padded_tokens=32768)


def save_weights(model: JointModel, path: Path) -> None:
    """Write fp16 safetensors under the names that `transformers` gives a token classifier."""
    prefix = model.encoder.base_model_prefix
    tensors = {
        _outside_name(name, prefix): tensor.detach().half().contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it private; a model folder is for whoever serves it


def load_heads(model: JointModel, source: str, schema: Schema) -> bool:
    """Take the heads of a trained model folder, if its types and labels are those of `schema`."""
    if not is_model_folder(source):
        return False
    config = ModelFolder.open(source, verify=False).config
    if (config.type_names(), config.label_set().names) != (tuple(schema.types), tuple(schema.labels)):
        return False
    tensors = load_file(Path(source) / FILES.weights)
    prefix = model.encoder.base_model_prefix
    names = [name for name in model.state_dict() if not name.startswith("encoder.")]
    heads = {name: tensors[_outside_name(name, prefix)].float() for name in names}
    model.load_state_dict(heads, strict=False)
    return True


def load_trained(folder: ModelFolder) -> tuple[JointModel, Backbone, Schema]:
    """The model of a trained folder, its backbone and its schema.

    Raises TrainingError if the folder lacks its weights, or they hold no heads.
    """
    source = str(folder.path)
    if not (folder.path / FILES.weights).is_file():
        raise TrainingError(
            f"{source} has no {FILES.weights} (a release may leave it out); expected a folder with "
            "weights: train one with `make train`."
        )
    schema = schema_of_model(folder.config)
    backbone = load_backbone(source, dropout=0.0)
    model = JointModel(backbone.encoder, len(schema.tags), len(schema.labels), dropout=0.0)
    if not load_heads(model, source, schema):
        raise TrainingError(f"{source}/{FILES.weights} holds no heads; train the model again.")
    return model, backbone, schema


def source_fingerprint(source: str) -> str:
    """Hash of the weights that a local folder would start a run with; "" for names."""
    weights = Path(source) / FILES.weights
    return file_sha256(weights) if weights.is_file() else ""


def _outside_name(name: str, prefix: str) -> str:
    """`encoder.…` is `bert.…` outside, and the tag head is its `classifier`."""
    head, _, rest = name.partition(".")
    return {"encoder": f"{prefix}.{rest}", "tag_head": f"classifier.{rest}"}.get(head, name)


def round_to_half(tensor: Tensor) -> Tensor:
    """What is left of weights once they were stored as fp16."""
    return tensor.half().float()
