"""The evaluation as one page: tables, plots and examples of errors, in a file that needs no network."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from training.evaluation import Evaluation, Float, ScoresAndRight
from training.metrics import MIN_GOLD, Interval, Intervals, Scores, bootstrap_lead
from training.span_errors import OUTSIDE, SpanError, span_errors, type_confusion

_EXAMPLES = 8
_COLOR = "#2f6f8f"


@dataclass(frozen=True, slots=True)
class Measured:
    """One data set: the model's evaluation, and those of other systems by name."""

    name: str
    result: Evaluation
    others: Mapping[str, Evaluation]


def write_html(sets: Sequence[Measured], model: Mapping[str, str], path: Path) -> None:
    """Write the page."""
    environment = Environment(
        loader=PackageLoader("training", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("report.html.j2")
    path.write_text(template.render(model=model, sections=[_section(s) for s in sets]), encoding="utf-8")


def _section(measured: Measured) -> dict[str, object]:
    result = measured.result
    errors = list(span_errors(result))
    return {
        "name": measured.name,
        "span_documents": len(result.span_documents),
        "label_documents": len(result.label_documents),
        "summary": result.summary(),
        "systems": list(_systems(measured)),
        "types": list(_classes(result.spans, result.span_intervals())),
        "labels": list(_classes(result.labels, result.label_intervals())),
        "groups": {
            "source": result.span_f1_by(lambda d: d.source or "none"),
            "genre": result.span_f1_by(lambda d: d.genre or "none"),
        },
        "error_counts": Counter(error.kind for error in errors),
        "errors": _examples(errors),
        "confusion": _picture(_confusion_plot(result)),
        "reliability": _picture(_reliability_plot(result)),
    }


def _systems(measured: Measured) -> Iterator[dict[str, object]]:
    """The model and the others, with the interval of the model's lead over each."""
    ours = measured.result
    for name, result in {"this model": ours, **measured.others}.items():
        spans, labels = result.span_intervals(), result.label_intervals()
        marks_spans, gives_labels = any(result.predicted_spans), any(result.predicted_labels)
        leads: dict[str, Interval] = {}
        if result is not ours and marks_spans:
            leads["spans"] = bootstrap_lead(
                ours.gold_spans, ours.predicted_spans, result.predicted_spans, macro=False
            )
        if result is not ours and gives_labels:
            leads["labels"] = bootstrap_lead(
                ours.gold_labels, ours.predicted_labels, result.predicted_labels, macro=True
            )
        yield {
            "name": name,
            # A system that does one of the two things is not judged by the other.
            "spans": (result.spans.micro.f1, spans.micro) if marks_spans else None,
            "labels": (result.labels.macro_f1, labels.macro) if gives_labels else None,
            "thresholds": result.thresholds,
            "leads": leads,
        }


def _classes(scores: Scores, intervals: Intervals) -> Iterator[dict[str, object]]:
    for name, counts in scores.per_class.items():
        # From a few items an interval says nothing, however narrow it is.
        interval = intervals.per_class[name] if counts.gold >= MIN_GOLD else None
        yield {"name": name, "counts": counts, "interval": interval}


def _examples(errors: Sequence[SpanError]) -> dict[str, list[dict[str, object]]]:
    """A few of each kind, spread over all of them."""
    found: dict[str, list[dict[str, object]]] = {}
    for kind in ("missed", "spurious", "border", "type", "border and type"):
        own = [error for error in errors if error.kind == kind]
        shown = np.linspace(0, len(own) - 1, min(_EXAMPLES, len(own))).round().astype(int)
        found[kind] = [
            {
                "context": error.context(),
                "gold": f"{error.surface(error.gold)} {error.gold[3]}" if error.gold else OUTSIDE,
                "got": f"{error.surface(error.got)} {error.got[3]}" if error.got else OUTSIDE,
                "document": error.document.id,
            }
            for error in (own[at] for at in shown)
        ]
    return found


def _confusion_plot(result: Evaluation) -> Figure:
    """Share of each gold type (row) that was read as each type (column)."""
    confusion = type_confusion(result)
    names = [*sorted({name for pair in confusion for name in pair} - {OUTSIDE}), OUTSIDE]
    counts = np.array([[confusion[gold, got] for got in names] for gold in names], dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7.5, 6.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel("read as")
    axis.set_ylabel("gold")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.6 else "black"
            axis.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, color=color)
    return figure


def _reliability_plot(result: Evaluation) -> Figure:
    """How often a prediction with a given score is right; on the diagonal a score is a probability."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    parts = (("spans", result.span_scores), ("labels", result.label_scores))
    for axis, (title, data) in zip(figure.subplots(1, 2), parts, strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        centers, accuracies, sizes = _reliability(data)
        axis.plot(centers, accuracies, marker="o", color=_COLOR)
        for x, y, size in zip(centers, accuracies, sizes, strict=True):
            axis.annotate(f"{size:.0f}", (x, y), textcoords="offset points", xytext=(4, -9), fontsize=7)
        axis.set_xlabel("score")
        axis.set_ylabel("share right")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    return figure


def _reliability(data: ScoresAndRight, bins: int = 10) -> tuple[Float, Float, Float]:
    """Mean score, accuracy and size of each bin that holds anything."""
    scores, right = data
    bin_of = np.minimum((scores * bins).astype(int), bins - 1)
    rows = [bin_of == b for b in np.unique(bin_of)]
    return (
        np.array([scores[row].mean() for row in rows]),
        np.array([right[row].mean() for row in rows]),
        np.array([float(row.sum()) for row in rows]),
    )


def _picture(figure: Figure) -> str:
    """A data URL, so that the page is one file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
