"""Strict span F1 and label F1, counted as `score.py` of the reference data counts them."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = Sequence[set[tuple[Hashable, ...]]]
"""One set a document; the last part of a key is its class."""

MIN_GOLD = 5
"""Labels with fewer gold documents are left out of the macro average."""


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives and false negatives of one class."""

    tp: int
    fp: int
    fn: int

    @property
    def gold(self) -> int:
        """How often the class occurs in the gold annotation."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """NaN if nothing was predicted."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else float("nan")

    @property
    def recall(self) -> float:
        """NaN if the class does not occur."""
        return self.tp / self.gold if self.gold else float("nan")

    @property
    def f1(self) -> float:
        """NaN if the class neither occurs nor is predicted."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else float("nan")


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts by class and the averages over them."""

    per_class: dict[str, Counts]

    @property
    def micro(self) -> Counts:
        """All classes together."""
        return Counts(
            *(sum(getattr(c, name) for c in self.per_class.values()) for name in ("tp", "fp", "fn"))
        )

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes with at least MIN_GOLD gold items; NaN if there is none."""
        values = [c.f1 for c in self.per_class.values() if c.gold >= MIN_GOLD]
        return sum(values) / len(values) if values else float("nan")


def score(gold: Keys, predicted: Keys) -> Scores:
    """Compare keys document by document; the last part of a key is its class."""
    tp, fp, fn = Counter[str](), Counter[str](), Counter[str]()
    for wanted, got in zip(gold, predicted, strict=True):
        tp.update(str(key[-1]) for key in wanted & got)
        fp.update(str(key[-1]) for key in got - wanted)
        fn.update(str(key[-1]) for key in wanted - got)
    return Scores({c: Counts(tp[c], fp[c], fn[c]) for c in sorted(tp | fp | fn)})


Interval = tuple[float, float]
_NONE = (float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Intervals:
    """95% intervals of F1, by resampling documents."""

    micro: Interval
    macro: Interval
    """Over the classes that the macro average of all documents has."""
    per_class: dict[str, Interval]


def bootstrap(gold: Keys, predicted: Keys, *, samples: int = 500, seed: int = 13) -> Intervals:
    """Draw as many documents as there are, with replacement, and score them; again and again."""
    classes, counts = _counts_by_document(gold, predicted)
    if not classes:
        return Intervals(_NONE, _NONE, {})
    sums = _resampled(counts, samples, seed)
    f1 = _f1(sums)
    common = counts[:, :, [0, 2]].sum(axis=(0, 2)) >= MIN_GOLD
    return Intervals(
        micro=_interval(_f1(sums.sum(axis=1))),
        macro=_interval(np.nanmean(f1[:, common], axis=1)) if common.any() else _NONE,
        per_class={name: _interval(f1[:, k]) for k, name in enumerate(classes)},
    )


def bootstrap_lead(
    gold: Keys, ours: Keys, theirs: Keys, *, macro: bool, samples: int = 500, seed: int = 13
) -> Interval:
    """95% interval of how far one system's F1 is ahead of another's on the same documents."""
    leads = []
    for predicted in (ours, theirs):
        classes, counts = _counts_by_document(gold, predicted)
        if not classes:
            return _NONE
        common = counts[:, :, [0, 2]].sum(axis=(0, 2)) >= MIN_GOLD
        if macro and not common.any():
            return _NONE
        sums = _resampled(counts, samples, seed)
        leads.append(np.nanmean(_f1(sums[:, common]), axis=1) if macro else _f1(sums.sum(axis=1)))
    return _interval(leads[0] - leads[1])


def _counts_by_document(gold: Keys, predicted: Keys) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Classes, and (tp, fp, fn) of each in each document. *Shape:* (documents, classes, 3)."""
    classes = list(score(gold, predicted).per_class)
    counts = np.zeros((len(gold), len(classes), 3))
    for row, (wanted, got) in enumerate(zip(gold, predicted, strict=True)):
        for name, found in score([wanted], [got]).per_class.items():
            counts[row, classes.index(name)] = (found.tp, found.fp, found.fn)
    return classes, counts


def _resampled(counts: npt.NDArray[np.float64], samples: int, seed: int) -> npt.NDArray[np.float64]:
    """Sums over documents drawn with replacement. *Shape:* (samples, classes, 3)."""
    draws = np.random.default_rng(seed).integers(0, len(counts), (samples, len(counts)))
    return np.stack([counts[drawn].sum(axis=0) for drawn in draws])


def _interval(values: npt.NDArray[np.float64]) -> Interval:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _f1(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """NaN for a class that is not there: neither expected nor predicted."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    total = 2 * tp + fp + fn
    return np.asarray(np.divide(2 * tp, total, out=np.full(tp.shape, np.nan), where=total > 0))
