"""The model card: what the model is, what it was made from, how well it reads."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.model_folder import EmbargoConfig
from training.backbone import BACKBONE
from training.manifest import Provenance

Metrics = Mapping[str, Mapping[str, Any]]
"""Evaluation summaries by data set."""


def write_card(config: EmbargoConfig, provenance: Provenance, metrics: Metrics) -> str:
    """The Markdown of a model folder's README.md."""
    name = f"{config.name}-v{config.version}"
    parts = [
        _front_matter(name, provenance, metrics),
        f"# {name}\n",
        f"Reads English sanctions news: {len(config.types)} span types and {len(config.labels)} document "
        "labels in one pass, on CPUs. Served by Embargo; `config.json` holds windows, thresholds and "
        f"temperatures. The graph is {config.graph_variant}.\n",
        "## How well it reads\n",
        "Strict span F1 (start, end and type equal) and label macro-F1 over labels with five or more gold "
        "documents, measured through the exported graph and the serving engine. In brackets: 95% bootstrap "
        "interval over documents. On dev sets temperatures and label thresholds are cross-fitted by "
        "document.\n",
        _overview(metrics),
        "Reproduce with\n\n```\n"
        + "\n".join(f"embargo evaluate --model {name} --data {data}" for data in metrics)
        + "\n```\n",
        *(_details(data, summary) for data, summary in metrics.items()),
        "## What it was made from\n",
        _provenance(provenance),
        _LIMITS,
    ]
    return "\n".join(parts)


_INDEXED = {"span_micro_f1": "strict span micro-F1", "label_macro_f1": "label macro-F1"}


def _front_matter(name: str, provenance: Provenance, metrics: Metrics) -> str:
    makings = [asdict(provenance), *_earlier(provenance)]
    starts = {start for m in makings for start in (m["backbone"], (m["pretraining"] or {}).get("start"))}
    lines = [
        "---",
        "language: en",
        "license: apache-2.0",
        "library_name: embargo",
        "pipeline_tag: token-classification",
        *([f"base_model: {_PACKAGED_ID}"] if BACKBONE in starts else []),
        "tags: [sanctions, adverse-media, ner, onnx]",
        "model-index:",
        f"- name: {name}",
        "  results:",
    ]
    for data, summary in metrics.items():
        lines += [
            "  - task: {type: token-classification}",
            f"    dataset: {{name: '{data}', type: '{data}'}}",
            "    metrics:",
            *(
                f"    - {{type: f1, name: {name}, value: {_figure(summary[key])}}}"
                for key, name in _INDEXED.items()
                if summary[key] is not None
            ),
        ]
    return "\n".join([*lines, "---", ""])


def _overview(metrics: Metrics) -> str:
    rows = [
        "| data | documents | span micro-F1 | label macro-F1 | relevance F1 | `overseas_labour` F1 "
        "| thresholds | unreachable gold spans |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for data, s in metrics.items():
        apart = [
            _figure(s["labels"].get(name, {}).get("f1")) for name in ("not_sanctions", "overseas_labour")
        ]
        rows.append(
            f"| `{data}` | {s['documents']} "
            f"| {_figure(s['span_micro_f1'])} {_interval(s['span_micro_f1_interval'])} "
            f"| {_figure(s['label_macro_f1'])} {_interval(s['label_macro_f1_interval'])} "
            f"| {' | '.join(apart)} | {s['label_thresholds']} "
            f"| {s['unreachable_spans']} of {s['gold_spans']} |"
        )
    return "\n".join([*rows, ""])


def _details(data: str, summary: Mapping[str, Any]) -> str:
    rows = [f"### `{data}`\n"]
    if len(summary["sources"]) > 1:
        rows += ["| source | documents | span micro-F1 |", "|---|---|---|"]
        rows += [
            f"| {source} | {row['documents']} | {_figure(row['span_micro_f1'])} |"
            for source, row in summary["sources"].items()
        ]
        rows.append("")
    rows.append(
        f"Expected calibration error: spans {_figure(summary['span_calibration_error'])}, "
        f"labels {_figure(summary['label_calibration_error'])}.\n"
    )
    split = summary.get("headline_split_off")
    if split and split["documents_split"]:
        rows.append(
            f"With the headlines of {split['documents_split']} documents sent as titles: span micro-F1 "
            f"{_figure(split['span_micro_f1'])}, label macro-F1 {_figure(split['label_macro_f1'])}.\n"
        )
    for title, table in (("type", summary["types"]), ("label", summary["labels"])):
        rows += [f"| {title} | precision | recall | F1 | gold |", "|---|---|---|---|---|"]
        rows += [
            f"| {name} | {_number(row['precision'])} | {_number(row['recall'])} "
            f"| {_number(row['f1'])} | {row['gold']} |"
            for name, row in table.items()
        ]
        rows.append("")
    return "\n".join(rows)


def _provenance(provenance: Provenance) -> str:
    if provenance.averaged:
        names = ", ".join(f"`{Path(manifest).parent}`" for manifest in provenance.data["averaged"])
        rows = [f"- Command: `{provenance.command}`.", f"- Start: the mean of the weights of {names}."]
    else:
        rows = [
            f"- Command: `{provenance.command}` (seed {provenance.seed}).",
            f"- Start: {_start(provenance)}.",
        ]
    for role, files in provenance.data.items():
        if role == "averaged":
            continue  # named above
        rows.append(f"- {role}: {', '.join(f'`{file}`' for file in files) or 'nothing'}")
    used = [file for files in provenance.data.values() for file in files]
    used += _pretraining_texts(provenance.pretraining)
    for earlier in _earlier(provenance):
        read = list(dict.fromkeys(file for files in (earlier["data"] or {}).values() for file in files))
        named = ", ".join(f"`{file}`" for file in read)
        rows.append(f"- Before that: `{earlier['command']}` (seed {earlier['seed']}), from {named}.")
        used += [*read, *_pretraining_texts(earlier["pretraining"])]
    notes = [note for part, note in _CORPUS_NOTES.items() if any(part in file for file in used)]
    return "\n".join([*rows, "", *notes, "Hashes of every file stand in `manifest.json`.", ""])


def _earlier(provenance: Provenance) -> list[Mapping[str, Any]]:
    """Every making before this one, latest first, each once: two models may have had one start."""
    found: dict[str, Mapping[str, Any]] = {}
    waiting = [provenance.started_from, *(provenance.averaged or ())]
    while waiting:
        making = waiting.pop(0)
        if making is not None:
            found.setdefault(making["command"], making)
            waiting += [making.get("started_from"), *(making.get("averaged") or ())]
    return list(found.values())


def _pretraining_texts(pretraining: Mapping[str, Any] | None) -> list[str]:
    return list((pretraining or {}).get("data", {}).get("texts", []))


def _start(provenance: Provenance) -> str:
    made = provenance.pretraining
    if made is None:
        return _of(provenance.backbone)
    settings = made["settings"]
    texts = ", ".join(f"`{file}`" for file in made["data"]["texts"])
    return (
        f"{_of(made['start'])}, which then read {settings['tokens']:,} tokens of {texts} with "
        f"{settings['hidden_share']:.0%} of the words hidden (`{made['command']}`, seed {settings['seed']}, "
        f"on a {'CPU' if made['device'] == 'cpu' else 'GPU'})"
    )


def _of(start: str) -> str:
    return _PACKAGED_NOTE if start == BACKBONE else start


_PACKAGED_ID = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGED_NOTE = (
    f"the packaged backbone {_PACKAGED_ID} (Apache-2.0), a descendant of "
    "nreimers/MiniLM-L6-H384-uncased (MIT)"
)

_CORPUS_NOTES = {
    "datasets/sanctions-news/": """\
Text and labels of `datasets/sanctions-news` were written and annotated with a language model, from general
knowledge of public events and institutions; private persons, small firms and ships in it are invented.
""",
    "shared/real/": """\
Documents under `real/` are official releases and Voice of America news (public domain or CC0), annotated by a
large language model under the same guidelines and reconciled rule by rule, not by human experts; two such
passes agree at 0.983 strict span F1.
""",
    "official-releases/": """\
`official-releases` are public-domain releases of the US Treasury, State Department and White House; their
labels were given by a language model (datasets/official-releases), their spans are not annotated.
""",
    "unlabelled/": """\
`unlabelled/` is public-domain or CC0 text of official releases and Voice of America news, without annotation.
""",
    "gmb-voa": """\
`gmb-voa` is the Groningen Meaning Bank's silver annotation of Voice of America news (public domain), which
marks five of the types; a partial-label loss leaves the other types open there.
""",
}

_LIMITS = """## Limits

English only. Reads what a text asserts, not whether it is true; a label is a reason to look, not a
finding about anybody. News is harder than official releases, and rare labels rest on few examples: see
the intervals. Scores are calibrated on the dev sets named above and drift on other kinds of text.
"""


def _interval(bounds: list[float | None]) -> str:
    return "" if None in bounds else f"({bounds[0]:.3f}–{bounds[1]:.3f})"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
