"""The cache of results: bounded by what it holds, whatever the results are."""

import gc
import tracemalloc
from dataclasses import replace

from serving.analyzer import Analyzer
from serving.cache import Key, ResultCache, entry_bytes
from serving.results import Analysis, Document, Options, Problem

OPTIONS = Options(min_score=0.0, evidence=True)


def analysis(tiny: Analyzer, number: int) -> tuple[Key, Analysis]:
    document = Document(f"Oil of Russia and {number} workers in Vladivostok. " * (1 + number % 5))
    return Key.of(document, OPTIONS), tiny.analyze([document], OPTIONS)[0]


def test_it_holds_no_more_bytes_than_it_may_and_forgets_the_oldest(tiny: Analyzer) -> None:
    found = [analysis(tiny, number) for number in range(20)]
    cache = ResultCache(sum(entry_bytes(result) for _, result in found[:5]))
    for key, result in found:
        cache.keep({key: result})
        assert cache.bytes <= cache.limit
    held = cache.known(key for key, _ in found)
    assert list(held) == [key for key, _ in found[-len(held) :]]
    assert held == dict(found[-len(held) :])
    assert 2 <= len(held) < 20


def test_what_is_larger_than_the_cache_and_what_failed_is_not_held(tiny: Analyzer) -> None:
    key, result = analysis(tiny, 4)
    small = ResultCache(entry_bytes(result) - 1)
    small.keep({key: result})
    assert small.known([key]) == {}
    cache = ResultCache(1_000_000)
    cache.keep({key: Analysis("", error=Problem("empty", "nothing to read"))})
    assert cache.known([key]) == {}


def test_the_estimate_is_no_less_than_what_python_allocates(tiny: Analyzer) -> None:
    results = [analysis(tiny, number)[1] for number in range(200)]
    keys = [Key(number.to_bytes(32, "big"), replace(OPTIONS)) for number in range(200)]
    cache = ResultCache(100_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for key, result in zip(keys, results, strict=True):
            cache.keep({key: copied(result)})
        allocated = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(cache.known(keys)) == 200
    assert allocated <= cache.bytes <= 3 * allocated


def copied(result: Analysis) -> Analysis:
    """The same result in memory of its own, as a forward pass makes it."""
    labels, entities = result.labels or (), result.entities or ()
    return replace(
        result,
        labels=tuple(
            replace(label, score=label.score + 0.0, evidence=tuple(map(replace, label.evidence or ())))
            for label in labels
        ),
        entities=tuple(
            replace(e, text=f"{e.text} "[:-1], score=e.score + 0.0, start=e.start + 0) for e in entities
        ),
    )
