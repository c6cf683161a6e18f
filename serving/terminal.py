"""An analysis for a person at a terminal: highlighted text, label bars, evidence."""

import io
from itertools import cycle
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.results import Analysis

# One colour a span type in the order in which types are met; all readable on dark and light.
_COLOURS = (
    "cyan",
    "green",
    "magenta",
    "yellow",
    "blue",
    "red",
    "bright_cyan",
    "bright_green",
    "bright_magenta",
    "bright_yellow",
    "bright_blue",
    "bright_red",
    "white",
)
_BAR = 20


def save(text: str, analysis: Analysis, svg: Path) -> None:
    """Save what `show` prints as a picture, 100 columns wide."""
    console = Console(record=True, width=100, file=io.StringIO())
    show(text, analysis, console)
    console.save_svg(str(svg), title="embargo analyze")


def show(text: str, analysis: Analysis, console: Console | None = None) -> None:
    """Print the text with its spans marked (offsets in code points), then the labels."""
    out = console or Console()
    entities = analysis.entities or ()
    colours = dict(zip(dict.fromkeys(e.type for e in entities), cycle(_COLOURS), strict=False))
    marked = Text()
    end = 0
    for entity in entities:
        marked.append(text[end : entity.start])
        marked.append(text[entity.start : entity.end], style=f"bold {colours[entity.type]}")
        marked.append(f" {entity.type}", style=f"dim {colours[entity.type]}")
        end = entity.end
    marked.append(text[end:])
    out.print(marked, soft_wrap=False)
    out.print()
    if not analysis.labels:
        out.print("No label is over its threshold.", style="dim")
    table = Table(box=None, show_header=False, pad_edge=False)
    for label in analysis.labels or ():
        bar = "━" * round(label.score * _BAR)
        table.add_row(
            label.label,
            Text(f"{bar:<{_BAR}}", style="green"),
            f"{label.score:.3f}",
            Text(label.axis, style="dim"),
        )
        for evidence in (label.evidence or ())[:1]:
            sentence = " ".join(text[evidence.start : evidence.end].split())
            table.add_row("", "", "", Text(f"“{sentence}”", style="italic dim"))
    out.print(table)
    if analysis.coverage:
        read = analysis.coverage
        windows = f"{read.windows} window{'s' if read.windows > 1 else ''}"
        line = f"\n{len(entities)} spans; {read.tokens} tokens read in {windows}."
        out.print(line, style="dim", highlight=False)
