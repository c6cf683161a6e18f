"""From trained weights to a complete model folder: export, calibrate, measure, describe."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch

from serving.analyzer import Analyzer
from serving.errors import TrainingError
from serving.model_folder import FILES, EmbargoConfig, ModelFolder
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

Write = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Documents to measure on; `is_dev` if thresholds are fitted on them."""

    name: str
    documents: Sequence[AnnotatedDocument]
    is_dev: bool


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a run made, and what it was made from."""

    model: JointModel
    backbone: Backbone
    config: EmbargoConfig
    schema: Schema
    provenance: Provenance
    extras: Mapping[str, Write] = field(default_factory=dict)
    """More files by name, each with what writes it."""
    graph: Write | None = None
    """What writes a graph that is there already, as `config` names it; None: a new one, fp32."""


def write_folder(
    folder: Path, trained: TrainedModel, sets: Sequence[EvaluationSet]
) -> dict[str, dict[str, Any]]:
    """Write everything that CONTRACT calls a model folder; return the metrics by data set.

    The folder appears, or replaces an older one, only when it is complete. Raises TrainingError
    where no set is a dev set.
    """
    if not any(s.is_dev for s in sets):
        raise TrainingError("no dev documents to calibrate on; expected a corpus folder with dev.jsonl.")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_weights(partial, trained)
    draft = trained.config
    if trained.graph is None:
        draft = draft.model_copy(update={"graph_variant": "fp32"})
    _write_config(partial, draft, trained)
    write_manifest(partial, trained.provenance)

    analyzer = Analyzer.load(ModelFolder.open(partial))
    readings = {s.name: read(analyzer, s.documents, trained.schema) for s in sets}
    fitted = _fit(draft, [readings[s.name] for s in sets if s.is_dev], trained.schema)
    analyzer = analyzer.with_config(fitted)
    metrics: dict[str, dict[str, Any]] = {}
    for s in sets:
        result = evaluate(analyzer, readings[s.name], trained.schema, cross_fit=s.is_dev)
        split = _with_headlines_split(analyzer, s, trained.schema)
        metrics[s.name] = {**result.summary(), "headline_split_off": split}

    _write_config(partial, fitted, trained)
    text = orjson.dumps(metrics, option=orjson.OPT_INDENT_2) + b"\n"
    (partial / FILES.metrics).write_bytes(text)
    card = write_card(fitted, trained.provenance, metrics)
    (partial / FILES.card).write_text(card, encoding="utf-8")
    for name, write in trained.extras.items():
        write(partial / name)
    write_manifest(partial, trained.provenance)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return metrics


def _write_weights(folder: Path, trained: TrainedModel) -> None:
    """Weights, rounded once for safetensors and graph alike, and the tokenizer."""
    with torch.no_grad():
        for tensor in trained.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(round_to_half(tensor))
    save_weights(trained.model, folder / FILES.weights)
    if trained.graph:
        trained.graph(folder / FILES.graph)
    else:
        export_graph(trained.model, folder / FILES.graph)
    trained.backbone.tokenizer.save(str(folder / FILES.tokenizer))
    settings = orjson.dumps(trained.backbone.tokenizer_settings)
    (folder / FILES.tokenizer_settings).write_bytes(settings + b"\n")


def _fit(config: EmbargoConfig, dev: Sequence[LabelledReadings], schema: Schema) -> EmbargoConfig:
    """Temperatures and thresholds from all dev documents together.

    Where no dev document has labels, or none has spans annotated and predicted, those of `config` stay.
    """
    data = LabelledReadings(
        [document for part in dev for document in part.documents],
        [reading for part in dev for reading in part.readings],
    )
    labelled = data.labelled()
    if labelled.documents:
        gold = calibrate.label_matrix(labelled.documents, schema)
        config = _with_labels(config, labelled.label_logits(), gold)
    annotated = data.annotated()
    spans = calibrate.fit_span_temperature(annotated.readings, annotated.documents, schema)
    if spans is None:
        return config
    return _with_temperatures(config, spans=spans)


def _with_labels(
    config: EmbargoConfig, logits: npt.NDArray[np.float64], gold: npt.NDArray[np.float64]
) -> EmbargoConfig:
    """*Shape:* (documents, labels) both."""
    fitted = calibrate.fit_labels(logits, gold)
    thresholds = [round(float(threshold), 3) for threshold in fitted.thresholds]
    labels = tuple(
        label.model_copy(update={"threshold": threshold})
        for label, threshold in zip(config.labels, thresholds, strict=True)
    )
    return _with_temperatures(config.model_copy(update={"labels": labels}), labels=fitted.temperature)


def _with_temperatures(config: EmbargoConfig, **fitted: float) -> EmbargoConfig:
    rounded = {name: round(temperature, 4) for name, temperature in fitted.items()}
    temperatures = config.temperatures.model_copy(update=rounded)
    return config.model_copy(update={"temperatures": temperatures})


def _with_headlines_split(analyzer: Analyzer, data: EvaluationSet, schema: Schema) -> dict[str, object]:
    """The same figures with headlines sent as titles: both forms must read alike."""
    documents = [split_headline(document) for document in data.documents]
    result = evaluate(analyzer, read(analyzer, documents, schema), schema, cross_fit=data.is_dev)
    summary = result.summary()
    return {
        "documents_split": sum(a is not b for a, b in zip(documents, data.documents, strict=True)),
        "span_micro_f1": summary["span_micro_f1"],
        "label_macro_f1": summary["label_macro_f1"],
    }


def _write_config(folder: Path, config: EmbargoConfig, trained: TrainedModel) -> None:
    """`config.json`: the encoder's own, as `transformers` reads it, and ours beside it."""
    encoder, tags = trained.model.encoder, trained.schema.tags
    row = {
        **encoder.config.to_diff_dict(),
        "architectures": [f"{type(encoder).__name__.removesuffix('Model')}ForTokenClassification"],
        "id2label": {str(i): tag for i, tag in enumerate(tags)},
        "label2id": {tag: i for i, tag in enumerate(tags)},
        "embargo": config.model_dump(mode="json"),
    }
    (folder / FILES.config).write_bytes(orjson.dumps(row, option=orjson.OPT_INDENT_2) + b"\n")
