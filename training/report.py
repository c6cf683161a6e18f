"""An evaluation for people: a table for the terminal, a JSON report, plots."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
from nervaluate import Evaluator
from rich.table import Table

from serving.errors import TrainingError
from training.evaluation import Evaluation, rounded


def table(data: str, systems: Mapping[str, Evaluation]) -> Table:
    """Overall figures on one data set, a row a system."""
    documents = max(result.documents for result in systems.values())
    made = Table(
        "system", "span P", "span R", "span F1", "95%", "label F1", "95%",
        title=f"{data}, {documents} documents", title_justify="left", box=None,
    )  # fmt: skip
    for name, result in systems.items():
        micro = result.spans.micro
        made.add_row(
            name,
            _figure(micro.precision),
            _figure(micro.recall),
            f"[bold]{_figure(micro.f1, 4)}[/]",
            "–".join(map(_figure, result.span_intervals().micro)),
            f"[bold]{_figure(result.labels.macro_f1, 4)}[/]",
            "–".join(map(_figure, result.label_intervals().macro)),
        )
    return made


def class_table(result: Evaluation) -> Table:
    """Precision, recall and F1 of each span type and label."""
    made = Table("class", "P", "R", "F1", "gold", box=None)
    for scores in (result.spans, result.labels):
        for name, counts in scores.per_class.items():
            figures = map(_figure, (counts.precision, counts.recall, counts.f1))
            made.add_row(name, *figures, str(counts.gold))
        made.add_section()
    return made


def _figure(value: float, decimals: int = 3) -> str:
    """Rounded twice, as the card is, which is written from the four decimals of metrics.json."""
    return "" if math.isnan(value) else f"{round(value, 4):.{decimals}f}"


def cross_check(result: Evaluation) -> float:
    """Strict micro-F1 as nervaluate counts it. Raises TrainingError if it differs from ours."""
    if not any(result.gold_spans):
        return float("nan")
    fields = ("title", "text")
    gold, got = (
        [
            [
                # nervaluate's ends are inclusive: with ours, spans that touch would overlap.
                {"label": str(kind), "start": start, "end": end - 1}
                for where, start, end, kind in sorted(map(_as_row, keys))
                if where == field
            ]
            for keys in documents
            for field in fields
        ]
        for documents in (result.gold_spans, result.predicted_spans)
    )
    theirs = Evaluator(gold, got, tags=sorted(result.spans.per_class), loader="dict").evaluate()
    f1 = float(theirs["overall"]["strict"].f1)
    if abs(f1 - result.spans.micro.f1) > 1e-6:
        raise TrainingError(f"our span F1 is {result.spans.micro.f1:.6f}, nervaluate's is {f1:.6f}.")
    return f1


def write_json(results: Mapping[str, Evaluation], model: Mapping[str, str], path: Path) -> None:
    """Everything in one JSON file."""
    rows = {
        name: {**result.summary(), "nervaluate_strict_f1": rounded(cross_check(result))}
        for name, result in results.items()
    }
    path.write_bytes(orjson.dumps({"model": model, "data": rows}, option=orjson.OPT_INDENT_2) + b"\n")


def plot(results: Mapping[str, Evaluation], path: Path) -> None:
    """F1 by span type and by label, one panel a data set, with the number of gold items."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 2, squeeze=False)
    for row, (name, result) in zip(axes, results.items(), strict=True):
        for axis, (title, scores) in zip(
            row, (("span types", result.spans), ("labels", result.labels)), strict=True
        ):
            classes = sorted(scores.per_class.items(), key=lambda item: item[1].f1)
            values = [0.0 if counts.f1 != counts.f1 else counts.f1 for _, counts in classes]
            axis.barh([label for label, _ in classes], values, color="#2f6f8f")
            for at, (_, counts) in enumerate(classes):
                axis.text(
                    0.01,
                    at,
                    f"{values[at]:.2f}  (n={counts.gold})",
                    va="center",
                    fontsize=8,
                    color="white" if values[at] > 0.3 else "black",
                )
            axis.set_xlim(0, 1)
            axis.set_title(f"{name}: F1 of {title}", fontsize=10)
            axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=110)


def plot_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Losses and dev scores by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axis, keys in ((losses, ("tag_loss", "label_loss")), (scores, ("dev_span_f1", "dev_label_f1"))):
        for key in keys:
            axis.plot(epochs, [row.get(key, float("nan")) for row in history], marker="o", label=key)
        axis.set_xlabel("epoch")
        axis.legend()
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _as_row(key: tuple[object, ...]) -> tuple[str, int, int, str]:
    where, start, end, kind = key
    return str(where), int(str(start)), int(str(end)), str(kind)
