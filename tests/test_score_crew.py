"""How long workers are waited for and how far is read ahead, with no cluster at all."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from serving.errors import ScoreError
from serving.results import Analysis, Coverage, Document, Options
from serving.score import cluster, crew
from serving.score.crew import Crew, Read
from serving.score.manifest import software
from serving.score.parts import Item, Part, Place
from serving.score.pieces import Piece


class Nodes:
    """In the place of Ray: one node, a clock that only waiting moves on, answers that come when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers: dict[object, Any] = {}

    def monotonic(self) -> float:
        return self.now

    def put(self, value: object) -> object:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Resources": {"CPU": 1}, "Alive": True}]

    def remote(self, *_: Any, **__: Any) -> "Nodes":
        return self

    options = remote

    @property
    def software(self) -> "Nodes":
        return self

    read = software

    def wait(self, refs: list[object], timeout: float) -> tuple[list[object], list[object]]:
        done = [ref for ref in refs if ref in self.answers]
        self.now += 0 if done else timeout
        return done[:1], []

    def get(self, ref: object) -> Any:
        return self.answers[ref]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    nodes = Nodes()
    monkeypatch.setattr(crew, "ray", nodes)
    monkeypatch.setattr(crew, "time", nodes)
    monkeypatch.setattr(crew, "packed", lambda model: {})
    return nodes


def test_an_hour_of_reading_the_inputs_is_no_hour_without_workers(nodes: Nodes) -> None:
    members = Crew(None, Options(), threads=1, workers=None)  # type: ignore[arg-type]
    nodes.now += 3600
    assert members.wait() is None  # nobody is there yet
    nodes.now += 3600
    nodes.answers[nodes] = software()
    assert members.wait() is None
    line = deque([Piece(0, 0, [Document("oil")])])
    members.give(line)
    assert not line  # there is a worker that takes it


def test_ten_minutes_of_waiting_without_a_worker_are_the_end(nodes: Nodes) -> None:
    members = Crew(None, Options(), threads=1, workers=None)  # type: ignore[arg-type]
    for _ in range(120):
        assert members.wait() is None
    with pytest.raises(ScoreError, match="no place for a worker of 1 CPUs for 600 s"):
        members.wait()


class OneAtATime:
    """In the place of a crew: reads one piece each time it is waited for, from the second time on."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.at_work: deque[Piece] = deque()
        self.waits = 0

    def __len__(self) -> int:
        return 2

    @property
    def is_busy(self) -> bool:
        return bool(self.at_work)

    def give(self, line: deque[Piece]) -> None:
        if self.waits:
            self.at_work.extend(line)
            line.clear()

    def wait(self) -> Read | None:
        self.waits += 1
        if not self.at_work:
            return None
        piece = self.at_work.popleft()
        return Read(piece, [Analysis(d.id, coverage=Coverage(1, 1)) for d in piece.documents])


def test_parts_of_copies_alone_are_not_read_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_connected", lambda address: nullcontext())
    monkeypatch.setattr(cluster, "Crew", OneAtATime)
    read = 0

    def parts() -> Iterator[Part]:
        nonlocal read
        one = Part(0, (Item("a", {"line": 1}, 1, Document("oil", id=1)),), Place(), 0.0)
        for number in range(1000):
            read += 1
            yield one if number == 0 else replace(one, number=number, items=())

    def watch(analyses: Sequence[Analysis]) -> None:
        first_is_read_after.append(read)

    first_is_read_after: list[int] = []
    done = [
        scored.part.number
        for scored in cluster.score_on_ray(parts(), cluster.Cluster(), None, Options(), watch)  # type: ignore[arg-type]
    ]
    assert sorted(done) == list(range(1000))
    assert first_is_read_after[0] < 10
