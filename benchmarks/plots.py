"""Two pictures: speed against the length of documents, and speed against accuracy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.line_up import OWN
from benchmarks.report import QUICK_SAYS

_OTHERS = ("#4c78a8", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#ff9da6", "#9d755d", "#79706e", "#d67195")
_OURS = ("#c4161c", "#f58518")
_MARKS = "D^vP*X<>sd"


def plot(found: Mapping[str, Any], folder: Path) -> None:
    """length.png and accuracy.png."""
    styles = _styles(found)
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    _against_length(figure.subplots(), found, styles)
    figure.savefig(folder / "length.png", dpi=130)
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    _against_accuracy(figure.subplots(), found, styles)
    figure.savefig(folder / "accuracy.png", dpi=130)


def _styles(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Ours in red on top; every other has a colour and a mark of its own."""
    measured = [
        name for name, system in found["systems"].items() if "accuracy" in system and "slices" in system
    ]
    ours = [name for name in measured if name.startswith(OWN)]
    others = [name for name in measured if name not in ours]
    styles: dict[str, dict[str, Any]] = {
        name: {"color": _OURS[at % len(_OURS)], "marker": "os"[at % 2], "linewidth": 2.6, "zorder": 5}
        for at, name in enumerate(ours)
    }
    for at, name in enumerate(others):
        mark = _MARKS[at % len(_MARKS)]
        styles[name] = {"color": _OTHERS[at % len(_OTHERS)], "marker": mark, "linewidth": 1.4, "zorder": 3}
    return styles


def _caution(found: Mapping[str, Any]) -> str:
    return f"\n{QUICK_SAYS}" if found["quick"] else ""


def _against_length(axis: Axes, found: Mapping[str, Any], styles: Mapping[str, dict[str, Any]]) -> None:
    lengths = sorted(
        int(name.removeprefix("words_")) for name in found["slices"] if name.startswith("words_")
    )
    for name, style in styles.items():
        slices = found["systems"][name]["slices"]
        speeds = [slices[f"words_{length}"]["words_per_second"] for length in lengths]
        axis.plot(lengths, speeds, label=name, markersize=5, **style)
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("words a document")
    axis.set_ylabel("words per second")
    axis.set_title(
        f"Speed by length, {found['threads']} threads, {found['cpu']}{_caution(found)}", fontsize=11
    )
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(alpha=0.3)
    axis.figure.legend(loc="outside right upper", fontsize=8, frameon=False)


def _against_accuracy(axis: Axes, found: Mapping[str, Any], styles: Mapping[str, dict[str, Any]]) -> None:
    slice = max((name for name in found["slices"] if name.startswith("mixed_")), key=lambda n: int(n[6:]))
    for name, style in styles.items():
        system = found["systems"][name]
        speed, f1 = system["slices"][slice]["words_per_second"], system["accuracy"]["span_micro_f1"]
        low, high = system["accuracy"]["span_micro_f1_interval_95"]
        axis.errorbar(
            [speed],
            [f1],
            yerr=[[f1 - low], [high - f1]],
            color=style["color"],
            marker=style["marker"],
            markersize=9,
            elinewidth=0.7,
            alpha=0.9,
            linestyle="none",
            label=name,
            zorder=style["zorder"],
        )
    axis.set_xlim(left=0)
    axis.set_xlabel(f"words per second ({int(slice[6:]):,} documents of mixed length)")
    axis.set_ylabel("strict span micro-F1, 95% interval")
    axis.set_title(f"Speed and accuracy: better is up and to the right{_caution(found)}", fontsize=11)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(alpha=0.3)
    axis.figure.legend(loc="outside right upper", fontsize=8, frameon=False)
