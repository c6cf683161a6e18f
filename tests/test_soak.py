"""A soak reads what it says it reads, counts memory as it is, and fails when the engine does."""

import os
import random
import subprocess

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.memory import MIB, Memory
from serving.analyzer import Analyzer
from serving.errors import EmbargoError
from training.corpus import AnnotatedDocument


def test_memory_counts_what_is_held() -> None:
    before = Memory.of()
    held = np.ones(64 * MIB, dtype=np.uint8)
    now = Memory.of()
    assert now.resident - before.resident >= 60 * MIB
    assert now.peak >= now.resident >= held.nbytes


def test_memory_of_a_process_that_has_ended_is_none() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert Memory.of(process.pid).resident > 0
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Memory.of(process.pid) == (0, 0)  # a zombie
    process.communicate()
    assert Memory.of(process.pid) == (0, 0)


def test_every_document_is_read_once(tiny: Analyzer, corpus: list[AnnotatedDocument]) -> None:
    done: list[int] = []
    found = soak.run(tiny, corpus, 40, settled=10, seed=1, progress=done.append)
    assert found["documents"] == done[-1] == 40
    assert done == sorted(set(done))
    assert found["tokens"] >= 40 * soak.SHORTEST
    resident = found["resident_mb"]
    assert list(resident) == ["loaded", "after_10", "end", "peak"]
    assert 0 < resident["loaded"] <= resident["peak"]
    assert found["growth"] == round(resident["end"] / resident["after_10"] - 1, 4)


def test_lengths_are_spread_over_both_magnitudes() -> None:
    order = random.Random(0)
    words = [soak._words(order) for _ in range(1000)]
    assert min(words) >= soak.SHORTEST
    assert max(words) <= soak.LONGEST
    assert 400 < sum(length < 500 for length in words) < 600


def test_a_document_without_an_answer_ends_the_soak(tiny: Analyzer, corpus: list[AnnotatedDocument]) -> None:
    limits = tiny.config.limits.model_copy(update={"max_characters": 10})
    strict = tiny.with_config(tiny.config.model_copy(update={"limits": limits}))
    with pytest.raises(EmbargoError, match="was not read: The document has"):
        soak.run(strict, corpus, 4, settled=2, seed=1, progress=lambda done: None)


def test_a_soak_that_ends_before_memory_settles_is_refused(
    tiny: Analyzer, corpus: list[AnnotatedDocument]
) -> None:
    with pytest.raises(EmbargoError, match="raise --documents"):
        soak.run(tiny, corpus, 10, settled=10, seed=1, progress=lambda done: None)
