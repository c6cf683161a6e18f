"""Turns: A B C, A B C, and so on, so that whatever else the machine does falls on all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.protocol import Choice, SystemFailed
from benchmarks.work import Kind, Slice

WARM_UP = "warm_up"
"""The slice that a system reads after it was loaded, untimed."""
_SETTLE_SECONDS = 0.3
"""Between turns: threads of libraries spin for up to 0.2 s after their work."""
_TRIES = 2


class Reads(Protocol):
    """A started system, such as a WorkerProcess."""

    def use(self, choice: Choice) -> float:
        """Load it in a setup; the seconds it took."""

    def read(self, slice: str) -> tuple[float, int]:
        """Read a slice; seconds, and the most bytes of memory held so far."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The fastest setup for short texts and for all else, and the seconds of each that was tried."""

    best: Mapping[Kind, Choice]
    tried: Sequence[Mapping[str, object]]

    def choice(self, kind: Kind) -> Choice:
        """Batches of any make are read in the setup that is best for mixed ones."""
        return self.best.get(kind) or self.best["mixed"]


def tune(system: Reads, choices: Sequence[Choice], examples: Mapping[Kind, Slice]) -> Tuning:
    """Try every setup on an example of each kind. A single one is taken as it is."""
    if len(choices) == 1:
        return Tuning(dict.fromkeys(examples, choices[0]), [])
    seconds: dict[Kind, list[float]] = {kind: [] for kind in examples}
    for choice in choices:
        system.use(choice)
        for kind, example in examples.items():
            system.read(example.name)  # the first time is never the fastest
            seconds[kind].append(min(system.read(example.name)[0] for _ in range(_TRIES)))
    best = {kind: choices[found.index(min(found))] for kind, found in seconds.items()}
    tried = [
        {"setup": choice, **{f"{examples[kind].name}_seconds": seconds[kind][number] for kind in examples}}
        for number, choice in enumerate(choices)
    ]
    return Tuning(best, tried)


class Contestant:
    """A started system in its best setup for whatever it reads. Loading and warming up are untimed."""

    def __init__(self, system: Reads, tuning: Tuning) -> None:
        self._system, self._tuning = system, tuning
        self._loaded: Choice | None = None
        self.load_seconds = self.prepare("mixed")

    def prepare(self, kind: Kind) -> float:
        """Load the setup for a kind of slice, unless it is loaded; the seconds that loading took."""
        choice = self._tuning.choice(kind)
        if choice == self._loaded:
            return 0.0
        seconds = self._system.use(choice)
        self._system.read(WARM_UP)
        self._loaded = choice
        return seconds

    def read(self, slice: Slice) -> tuple[float, int]:
        """One turn."""
        self.prepare(slice.kind)
        time.sleep(_SETTLE_SECONDS)
        return self._system.read(slice.name)


@dataclass(slots=True)
class Measured:
    """What the turns of one system gave."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By slice, a number a round."""
    peak_rss_bytes: int = 0


def measure(
    contestants: Mapping[str, tuple[Contestant, Sequence[Slice]]],
    after_round: Callable[[int], None],
    progress: Callable[[int], None],
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Let all read their slices by turns; what they took, and why some dropped out.

    `progress` is told how many turns are over. Who fails has no further turn, and its earlier ones do
    not count.
    """
    found = {name: Measured() for name in contestants}
    dropped: dict[str, str] = {}
    every = {slice.name: slice for _, slices in contestants.values() for slice in slices}
    over = 0
    for number in range(max((slice.rounds for slice in every.values()), default=0)):
        for slice in every.values():
            if number >= slice.rounds:
                continue
            for name, (contestant, slices) in contestants.items():
                if slice not in slices:
                    continue
                over += 1
                if name in dropped:
                    continue
                try:
                    seconds, found[name].peak_rss_bytes = contestant.read(slice)
                except SystemFailed as error:
                    dropped[name] = f"in round {number + 1}: {error}"
                    del found[name]
                    continue
                found[name].seconds.setdefault(slice.name, []).append(seconds)
                progress(over)
        after_round(number)
    return found, dropped


def turns(contestants: Mapping[str, tuple[Contestant, Sequence[Slice]]]) -> int:
    """How many turns `measure` will take."""
    return sum(slice.rounds for _, slices in contestants.values() for slice in slices)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio over rounds: its median and how far it strayed."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> "Ratio":
        """Of two rows of numbers, round by round: neighbours in time are compared, not medians."""
        each = [a / b for a, b in zip(above, below, strict=True)]
        return cls(statistics.median(each), min(each), max(each))
