"""A bounded line: who is refused, what they are told, how streams wait."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import httpx
import pytest

from serving.admission import Admission, estimated_tokens
from serving.analyzer import Analyzer
from serving.errors import RequestError
from serving.loaded import _warm
from serving.results import Analysis, Document
from serving.settings import Settings
from tests.servers import Server, body


def test_beyond_the_line_requests_are_refused_and_told_when_to_come_back(tiny_folder: Path) -> None:
    with Server(Settings(model=tiny_folder, threads=1, max_queue_tokens=100)) as server:
        free = threading.Event()
        server.slow(lambda: free.wait(20))
        long = body("oil " * 200)  # a request is charged a quarter of the limit at most

        def ask() -> httpx.Response:
            return httpx.post(f"{server.url}/v1/analyze", json=long, timeout=30)

        with ThreadPoolExecutor(4) as callers:
            taken = [callers.submit(ask) for _ in range(4)]
            while server.service.admission.unanswered < 100:
                time.sleep(0.01)
            refused = ask()
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 120
            free.set()
            assert [answer.result().status_code for answer in taken] == [200] * 4
        assert ask().status_code == 200
        assert server.service.admission.unanswered == 0


def test_the_first_who_is_refused_is_told_by_the_speed_of_the_warm_up(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.loaded._warm", lambda analyzer, settings: 0.5)
    with Server(Settings(model=tiny_folder, threads=1, max_queue_tokens=100)) as server:
        free = threading.Event()
        server.slow(lambda: free.wait(20))
        long = body("oil " * 200)

        def ask() -> httpx.Response:
            return httpx.post(f"{server.url}/v1/analyze", json=long, timeout=30)

        with ThreadPoolExecutor(4) as callers:
            taken = [callers.submit(ask) for _ in range(4)]
            while server.service.admission.unanswered < 100:
                time.sleep(0.01)
            assert ask().headers["retry-after"] == "50"  # 25 tokens over
            free.set()
            assert [answer.result().status_code for answer in taken] == [200] * 4


def test_the_speed_of_the_warm_up_is_that_of_texts_that_fill_every_thread(
    tiny: Analyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("serving.loaded.time", SimpleNamespace(perf_counter=lambda: now[0]))
    read: list[int] = []

    class Slow:
        config = tiny.config

        def analyze(self, documents: Sequence[Document]) -> list[Analysis]:
            now[0] += 10.0
            read.append(sum(estimated_tokens(len(document.text)) for document in documents))
            return [Analysis("") for _ in documents]

    speed = _warm(cast(Analyzer, Slow()), Settings(threads=3))
    assert read[1] == pytest.approx(3 * 1024, rel=0.1)
    assert speed == read[1] / 10.0


def test_short_requests_too_are_refused_when_all_places_are_taken(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.admission.PLACES", 3)
    with Server(Settings(model=tiny_folder, threads=1)) as server:
        free = threading.Event()
        server.slow(lambda: free.wait(20))

        def ask() -> int:
            return httpx.post(f"{server.url}/v1/analyze", json=body("oil"), timeout=30).status_code

        with ThreadPoolExecutor(3) as callers:
            taken = [callers.submit(ask) for _ in range(3)]
            while server.service.admission.unanswered < 3:
                time.sleep(0.01)
            assert ask() == 429
            free.set()
            assert [answer.result() for answer in taken] == [200] * 3


def test_the_wait_that_is_told_follows_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen: list[int] = []
    admission = Admission(1000, 25.0, seen.append)
    with admission(250):
        now[0] = 10.0  # as fast as when it was warmed
    with ExitStack() as taken:
        for _ in range(3):
            taken.enter_context(admission(250))
        taken.enter_context(admission(200))
        with pytest.raises(RequestError) as refused, admission(1_000_000):  # charged 250 of 50 free
            pass
    assert refused.value.headers["Retry-After"] == "8"
    assert (admission.unanswered, max(seen), seen[-1]) == (0, 950, 0)
    assert estimated_tokens(4000) == 1001
    for _ in range(30):  # five minutes at another speed
        with admission(25):
            now[0] += 10.0
    assert admission.wait_seconds(25) == 10


def test_streams_wait_for_room_and_leave_half_of_it_to_others() -> None:
    admission = Admission(100, 1.0)
    order: list[int] = []

    async def chunk(number: int, free: anyio.Event) -> None:
        async with admission.room(25):
            order.append(number)
            await free.wait()

    async def callers() -> None:
        free = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(chunk, number, free)
            await anyio.wait_all_tasks_blocked()
            assert (order, admission.unanswered) == ([0, 1], 50)
            with admission(1000), admission(1000), pytest.raises(RequestError), admission(1):
                pass
            with anyio.move_on_after(0):  # one that leaves while it waits
                await chunk(4, free)
            free.set()

    anyio.run(callers)
    assert order == [0, 1, 2, 3]
    assert admission.unanswered == 0
