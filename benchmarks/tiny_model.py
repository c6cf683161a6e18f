"""A tiny model with random weights, for tests and measurements of what is around it."""

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
from training.markup import parse_markup
from training.model import JointModel
from training.schema import Schema, load_schema
from training.weights import draft_config

SCHEMA = Path(__file__).parent.parent / "datasets" / "schema.toml"
WORDS = (  # noqa: SIM905
    "the of in on a and said sanctions north korea russia vladivostok tanker oil coal bank "
    "resolution security council firm port monday two listed 2397 million workers ship"
).split()


def write_backbone(folder: Path) -> None:
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


def tiny_train_config() -> TrainConfig:
    """Windows of 32 tokens and a few steps."""
    return TrainConfig(
        window_size=32,
        window_stride=20,
        tokens_per_step=128,
        epochs=3,
        min_steps=1,
        encoder_learning_rate=2e-3,
        head_learning_rate=1e-2,
        dropout=0.0,
    )


def tiny_corpus() -> list[AnnotatedDocument]:
    """Enough documents to learn something from by heart."""
    marked = [
        (
            "a firm in [[Vladivostok|LOCATION]] listed [[two|QUANTITY]] workers of [[North Korea|LOCATION]]",
            ("overseas_labour", "designation"),
        ),
        (
            "the tanker [[Ojo Sel|VESSEL]] said [[oil|GOODS]] and [[coal|GOODS]] on [[Monday|DATE]]",
            ("commodity_trade", "alleged_violation"),
        ),
        (
            "the bank of [[Russia|LOCATION]] and the port in a [[Security Council|ORG]] resolution",
            ("financial_channels", "rulemaking"),
        ),
        ("ship and port said the workers in [[Russia|LOCATION]] on [[Monday|DATE]]", ("not_sanctions",)),
    ]
    documents = []
    for number, (text, cats) in enumerate(marked * 3):
        plain, entities = parse_markup(text)
        documents.append(AnnotatedDocument(str(number), plain, entities, cats))
    return documents


def write_tiny_model(folder: Path, backbone_folder: Path, schema: Schema) -> None:
    """A complete model folder of a model that was never trained."""
    backbone = load_backbone(str(backbone_folder), dropout=0.0)
    torch.manual_seed(6)
    model = JointModel(backbone.encoder, len(schema.tags), len(schema.labels), dropout=0.0)
    torch.nn.init.normal_(model.label_scores.weight, std=0.3)
    torch.nn.init.normal_(model.tag_head.weight, std=1.0)
    config = draft_config(tiny_train_config(), schema, backbone)
    config = config.model_copy(update={"name": "tiny", "version": "1"})
    sets = [EvaluationSet("dev", tiny_corpus(), is_dev=True)]
    provenance = Provenance.now("test", 0, "tiny", {"dev": []})
    write_folder(folder, TrainedModel(model, backbone, config, schema, provenance), sets)


def tiny_model_in(folder: Path) -> Path:
    """The folder, made below `folder`, of a tiny model with our types and labels."""
    write_backbone(folder / "backbone")
    write_tiny_model(folder / "tiny-v1", folder / "backbone", load_schema(SCHEMA))
    return folder / "tiny-v1"
