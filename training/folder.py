"""From trained weights to a complete model folder: export, calibrate, measure, describe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch

from serving.analyzer import Analyzer
from serving.model_folder import FILES, EmbargoConfig, ModelFolder, Temperatures
from training import calibrate
from training.backbone import Backbone
from training.card import write_card
from training.corpus import AnnotatedDocument
from training.evaluate import LabelledReadings, evaluate, read
from training.export import export_graph
from training.headlines import split_headline
from training.manifest import Provenance, write_manifest
from training.model import JointModel
from training.schema import Schema
from training.weights import round_to_half, save_weights


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Documents to measure on; `is_dev` if thresholds are fitted on them."""

    name: str
    documents: Sequence[AnnotatedDocument]
    is_dev: bool


def write_folder(
    folder: Path,
    model: JointModel,
    backbone: Backbone,
    config: EmbargoConfig,
    schema: Schema,
    sets: Sequence[EvaluationSet],
    provenance: Provenance,
) -> dict[str, dict[str, Any]]:
    """Write everything that CONTRACT calls a model folder; return the metrics by data set."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(round_to_half(tensor))
    save_weights(model, folder / FILES.weights)
    export_graph(model, folder / FILES.graph)
    backbone.tokenizer.save(str(folder / FILES.tokenizer))
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(backbone.tokenizer_settings) + b"\n")
    draft = config.model_copy(update={"graph_variant": "fp32"})
    _write_config(folder, draft, model, schema)
    write_manifest(folder, provenance)

    analyzer = Analyzer.load(ModelFolder.open(folder))
    readings = {s.name: read(analyzer, s.documents, schema) for s in sets}
    dev = [readings[s.name] for s in sets if s.is_dev]
    fitted = _fit(draft, dev, schema)
    _write_config(folder, fitted, model, schema)
    analyzer = analyzer.with_config(fitted)
    metrics = {
        s.name: evaluate(analyzer, readings[s.name], schema, cross_fit=s.is_dev).summary() for s in sets
    }
    for s in sets:
        metrics[s.name]["headline_split_off"] = _with_headlines_split(analyzer, s, schema)
    (folder / FILES.metrics).write_bytes(
        orjson.dumps(metrics, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n"
    )
    (folder / FILES.card).write_text(write_card(fitted, provenance, metrics), encoding="utf-8")
    write_manifest(folder, provenance)
    return metrics


def _fit(config: EmbargoConfig, dev: Sequence[LabelledReadings], schema: Schema) -> EmbargoConfig:
    """Temperatures and thresholds from all dev documents together.

    Where no dev document has labels, those of `config` stay.
    """
    labelled = [
        (data.label_logits[i], data.gold_labels[i])
        for data in dev
        for i, document in enumerate(data.documents)
        if document.cats is not None
    ]
    if labelled:
        config = _with_labels(config, *map(np.stack, zip(*labelled, strict=True)))
    spans = calibrate.fit_span_temperature(
        [reading for data in dev for reading in data.readings],
        [document for data in dev for document in data.documents],
        schema,
    )
    temperatures = config.temperatures.model_copy(update={"spans": round(spans, 4)})
    return config.model_copy(update={"temperatures": temperatures})


def _with_labels(
    config: EmbargoConfig, logits: npt.NDArray[np.float64], gold: npt.NDArray[np.float64]
) -> EmbargoConfig:
    """*Shape:* (documents, labels) both."""
    fitted = calibrate.fit_labels(logits, gold)
    thresholds = [round(float(threshold), 3) for threshold in fitted.thresholds]
    return config.model_copy(
        update={
            "temperatures": Temperatures(spans=1.0, labels=round(fitted.temperature, 4)),
            "labels": tuple(
                label.model_copy(update={"threshold": threshold})
                for label, threshold in zip(config.labels, thresholds, strict=True)
            ),
        }
    )


def _with_headlines_split(analyzer: Analyzer, data: EvaluationSet, schema: Schema) -> Mapping[str, float]:
    """The same figures with headlines sent as titles: both forms must read alike."""
    documents = [split_headline(document) for document in data.documents]
    result = evaluate(analyzer, read(analyzer, documents, schema), schema, cross_fit=data.is_dev)
    return {
        "documents_split": sum(a is not b for a, b in zip(documents, data.documents, strict=True)),
        "span_micro_f1": round(result.spans.micro.f1, 4),
        "label_macro_f1": round(result.labels.macro_f1, 4),
    }


def _write_config(folder: Path, config: EmbargoConfig, model: JointModel, schema: Schema) -> None:
    """`config.json`: the encoder's own, as `transformers` reads it, and ours beside it."""
    encoder = model.encoder.config.to_diff_dict()
    row = {
        **encoder,
        "architectures": [f"{type(model.encoder).__name__.removesuffix('Model')}ForTokenClassification"],
        "id2label": {str(i): tag for i, tag in enumerate(schema.tags)},
        "label2id": {tag: i for i, tag in enumerate(schema.tags)},
        "embargo": config.model_dump(mode="json"),
    }
    (folder / FILES.config).write_bytes(orjson.dumps(row, option=orjson.OPT_INDENT_2) + b"\n")
