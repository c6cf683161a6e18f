"""The decoder against a brute-force enumeration of all legal paths."""

import itertools

import numpy as np
import pytest

from serving.decode import decode, tag_names
from serving.tokens import TokenStream

TYPES = ("A", "B")
TAGS = tag_names(TYPES)


def stream(continues: list[bool], fields: list[int] | None = None) -> TokenStream:
    n = len(continues)
    zeros = np.zeros(n, dtype=np.int64)
    return TokenStream(
        ids=zeros,
        type_ids=zeros,
        starts=zeros,
        ends=zeros,
        fields=np.array(fields or [1] * n, dtype=np.int8),
        continues=np.array(continues),
    )


def legal(path: tuple[str, ...], given: TokenStream) -> bool:
    for at, tag in enumerate(path):
        new_field = at == 0 or given.fields[at] != given.fields[at - 1]
        before = "O" if new_field else path[at - 1]
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return False
        if given.continues[at] and (tag.startswith("B-") or (tag == "O" and before != "O")):
            return False
    return True


def spans_of(path: tuple[str, ...]) -> list[tuple[int, int, int]]:
    found = []
    for at, tag in enumerate(path):
        if tag.startswith("B-"):
            last = at
            while last + 1 < len(path) and path[last + 1] == f"I-{tag[2:]}":
                last += 1
            found.append((at, last, TYPES.index(tag[2:])))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_best_path_and_span_scores_equal_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    length = int(random.integers(1, 6))
    continues = [False, *(bool(x) for x in random.random(length - 1) < 0.3)]
    fields = sorted(int(x) for x in random.integers(0, 2, length))
    for at in range(1, length):
        continues[at] = continues[at] and fields[at] == fields[at - 1]
    given = stream(continues, fields)
    logits = random.normal(0, 2, (length, len(TAGS))).astype(np.float32)
    emission = np.exp(logits - logits.max(axis=1, keepdims=True))

    weights = {
        path: float(np.prod([emission[at, TAGS.index(tag)] for at, tag in enumerate(path)]))
        for path in itertools.product(TAGS, repeat=length)
        if legal(path, given)
    }
    best = max(weights, key=lambda path: weights[path])
    total = sum(weights.values())

    found = decode([logits], [given], temperature=1.0)[0]

    assert [(s.first, s.last, s.type) for s in found] == spans_of(best)
    for span in found:
        key = (span.first, span.last, span.type)
        mass = sum(weight for path, weight in weights.items() if key in spans_of(path))
        assert span.score == pytest.approx(mass / total, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_cutting_the_chain_changes_no_span_and_no_score_that_shows(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (600, len(TAGS))).astype(np.float32)
    logits[random.random(600) < 0.8, 0] += 16  # mostly sure of O, as on real text
    given = stream([False, *(random.random(599) < 0.2)])
    cut = decode([logits], [given], 1.0)[0]
    monkeypatch.setattr("serving.decode._SURE", -1.0)  # no token is sure: one piece
    whole = decode([logits], [given], 1.0)[0]
    assert [(s.first, s.last, s.type) for s in cut] == [(s.first, s.last, s.type) for s in whole]
    assert [s.score for s in cut] == pytest.approx([s.score for s in whole], abs=1e-4)
    assert len(whole) > 20


def test_a_sure_token_does_not_cut_what_its_neighbours_need(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.full((3, len(TAGS)), -20.0, dtype=np.float32)
    logits[0, TAGS.index("B-A")] = logits[2, TAGS.index("I-A")] = 10.0
    logits[1, 0], logits[1, TAGS.index("I-A")] = 9.0, -0.5
    found = decode([logits], [stream([False] * 3)], 1.0)[0]
    assert [(s.first, s.last) for s in found] == [(0, 2)]


def test_documents_do_not_touch_each_other() -> None:
    random = np.random.default_rng(3)
    many = [random.normal(0, 3, (n, len(TAGS))).astype(np.float32) for n in (1, 7, 40, 3)]
    streams = [stream([False] * len(logits)) for logits in many]
    together = decode(many, streams, 1.0)
    assert together == [decode([x], [s], 1.0)[0] for x, s in zip(many, streams, strict=True)]


def test_temperature_softens_scores_and_keeps_spans() -> None:
    logits = np.full((3, len(TAGS)), -2.0, dtype=np.float32)
    logits[0, 0] = logits[1, TAGS.index("B-A")] = logits[2, TAGS.index("I-A")] = 3.0
    sharp, soft = (decode([logits], [stream([False] * 3)], t)[0] for t in (0.5, 3.0))
    assert [(s.first, s.last, s.type) for s in sharp] == [(1, 2, 0)]
    assert [(s.first, s.last, s.type) for s in soft] == [(1, 2, 0)]
    assert sharp[0].score > soft[0].score


def test_a_word_is_never_split() -> None:
    logits = np.zeros((2, len(TAGS)), dtype=np.float32)
    logits[0, TAGS.index("B-A")] = 5.0
    logits[1, 0] = 5.0  # wants O inside the word
    assert [(s.first, s.last) for s in decode([logits], [stream([False, True])], 1.0)[0]] in ([(0, 1)], [])


def test_no_documents_give_no_spans() -> None:
    assert decode([], [], 1.0) == []


def test_a_document_decodes_to_the_same_bits_in_any_company() -> None:
    random = np.random.default_rng(3)
    documents = []
    for _ in range(40):
        length = int(random.integers(1, 60))
        logits = random.normal(0, 1, (length, len(TAGS))).astype(np.float32)
        logits[random.random(length) < 0.7, 0] += 12  # runs of tokens that are surely outside
        documents.append((logits, stream([False] * length)))
    together = decode([d[0] for d in documents], [d[1] for d in documents], 1.0)
    for found, (logits, given) in zip(together, documents, strict=True):
        assert decode([logits], [given], 1.0) == [found]
