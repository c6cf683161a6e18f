"""A complete model folder with random weights: for measurements in which the model is not the subject."""

import string
from pathlib import Path

import tokenizers
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from training.backbone import load_backbone
from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.folder import EvaluationSet, TrainedModel, write_folder
from training.manifest import Provenance
from training.model import JointModel
from training.schema import Schema, load_schema
from training.weights import draft_config

SCHEMA = Path(__file__).parent.parent / "datasets" / "schema.toml"
WORDS = (  # noqa: SIM905
    "the of in on a and said sanctions north korea russia vladivostok tanker oil coal bank "
    "resolution security council firm port monday two listed 2397 million workers ship"
).split()
_CONFIG = TrainConfig(window_size=32, window_stride=20, dropout=0.0)


def save_backbone(folder: Path) -> None:
    """A two-layer BERT with a small vocabulary, saved as `transformers` saves one."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    pieces += [f"##{c}" for c in string.ascii_lowercase + string.digits]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *WORDS]))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    wrapped.save_pretrained(folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.4,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def write_tiny_model(
    folder: Path,
    backbone: Path,
    corpus: list[AnnotatedDocument],
    config: TrainConfig = _CONFIG,
    schema: Schema | None = None,
) -> None:
    """A model of that backbone which was never trained; thresholds are fitted on `corpus`."""
    known = schema or load_schema(SCHEMA)
    loaded = load_backbone(str(backbone), dropout=0.0)
    torch.manual_seed(6)
    model = JointModel(loaded.encoder, len(known.tags), len(known.labels), dropout=0.0)
    torch.nn.init.normal_(model.label_scores.weight, std=0.3)
    torch.nn.init.normal_(model.tag_head.weight, std=1.0)
    drafted = draft_config(config, known, loaded).model_copy(update={"name": "tiny", "version": "1"})
    provenance = Provenance.now("test", 0, "tiny", {"dev": []})
    sets = [EvaluationSet("dev", corpus, is_dev=True)]
    write_folder(folder, TrainedModel(model, loaded, drafted, known, provenance), sets)
