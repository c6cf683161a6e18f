"""What goes into the engine and what comes out: frozen dataclasses, no behaviour."""

from dataclasses import dataclass, field
from typing import Literal

OffsetUnit = Literal["codepoint", "utf16", "utf8"]
Field = Literal["title", "text"]


@dataclass(frozen=True, slots=True)
class Document:
    """One text to read. `id` is echoed as sent."""

    text: str
    title: str | None = None
    id: str | int = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller asks for; the defaults are those of the HTTP contract."""

    labels: bool = True
    entities: bool = True
    evidence: bool = False
    min_score: float | None = None
    offset_unit: OffsetUnit = "codepoint"
    all_labels: bool = False
    """Every label with its score, also those under their thresholds."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence that speaks for a label; `score` is its share of the evidence, 0 to 1."""

    start: int
    end: int
    score: float
    field: Field


@dataclass(frozen=True, slots=True)
class Label:
    """A document label with the calibrated probability that it holds."""

    label: str
    axis: str
    score: float
    evidence: tuple[Evidence, ...] | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """A span; `text` is exactly the slice `[start:end]` of its field in the asked unit.

    `score` is the calibrated probability that the whole span is right.
    """

    type: str
    start: int
    end: int
    text: str
    score: float
    field: Field


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was read: every token once, in how many windows."""

    tokens: int
    windows: int
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one document was not read."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """The result for one document: either an error, or everything else."""

    id: str | int
    labels: tuple[Label, ...] | None = None
    entities: tuple[Entity, ...] | None = None
    coverage: Coverage | None = None
    error: Problem | None = field(default=None)
