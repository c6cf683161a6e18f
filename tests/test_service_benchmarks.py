"""The measurements of the service: what is sent, what is counted, what is called a fault."""

import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from benchmarks.asked import bodies_of, calls_of, compare
from benchmarks.engine import Engine
from benchmarks.exchange import Answer, BrokenOff, Link, post
from benchmarks.fuzz import Outcome, send, wrong_with
from benchmarks.fuzzed import Fuzzed, fuzzed
from benchmarks.http import Measured, hand_over, measure, report
from benchmarks.load import Load
from benchmarks.overload import broken_promises
from benchmarks.served import Served
from benchmarks.work import Slice
from serving.results import Document
from serving.settings import Settings
from tests.servers import Server

CPUS = sorted(os.sched_getaffinity(0))
TEXTS = [f"Oil of Russia and {number} workers in Vladivostok. " * (1 + number % 4) for number in range(40)]
DOCUMENTS = [Document(text, id=str(number)) for number, text in enumerate(TEXTS)]


class Direct:
    """A WorkerProcess whose worker is in this process."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(orjson.dumps(getattr(self._worker, do)(**request)))
        return answer


@pytest.fixture
def load(server: Server) -> Load:
    made = Load()
    made.open(CPUS, server.port)
    made.take("singles", bodies_of(calls_of(DOCUMENTS, 1)))
    return made


def test_every_body_is_sent_once_and_every_answer_is_the_engines(load: Load, tiny_folder: Path) -> None:
    turn = load.closed("singles", clients=7)
    assert turn["answers"] == {"200": 40}
    found = load.found("singles")["found"]
    assert sorted(number for number, _, _ in found) == list(range(40))
    engine = Engine()
    engine.open(CPUS, str(tiny_folder))
    engine.take("singles", calls_of(DOCUMENTS, 1))
    expected = engine.bodies("singles")["bodies"]
    assert {compare(expected[number], body) for number, body, _ in found} <= {"same", "close"}
    assert compare(expected[0], expected[1]) == "other"
    assert load.found("singles") == {"found": []}


def test_clients_that_last_send_bodies_again(load: Load) -> None:
    answers = load.lasting("singles", clients=3, seconds=1.0)["answers"]
    assert set(answers) == {"200"}
    assert sum(count for _, _, count in load.found("singles")["found"]) == answers["200"]


def test_requests_arrive_whatever_becomes_of_those_before(server: Server, load: Load) -> None:
    free = threading.Event()
    server.slow(lambda: free.wait(60))
    timer = threading.Timer(1.0, free.set)
    timer.start()
    arrived = load.arriving("singles", rate=50, seconds=0.4)
    assert arrived["answers"] == {"200": 20}
    assert arrived["in_time"] == 0  # all came before the first was answered
    timer.join()


def test_a_refusal_without_a_time_to_come_back_is_counted(tiny_folder: Path) -> None:
    with Server(Settings(model=tiny_folder, threads=1, max_queue_tokens=4)) as server:
        free = threading.Event()
        server.slow(lambda: free.wait(60))
        timer = threading.Timer(0.5, free.set)
        timer.start()
        load = Load()
        load.open(CPUS, server.port)
        load.take("singles", bodies_of(calls_of(DOCUMENTS, 1)))
        answers = load.closed("singles", clients=40)["answers"]
        timer.join()
    assert answers["200"] + answers["429"] == 40
    assert answers["429"] > 0
    assert "429 without Retry-After" not in answers


def test_a_server_that_is_gone_breaks_off(tiny_folder: Path) -> None:
    with Server(Settings(model=tiny_folder)) as server:
        load = Load()
        load.open(CPUS, server.port)
    load.take("singles", bodies_of(calls_of(DOCUMENTS[:3], 1)))
    assert load.closed("singles", clients=1)["answers"] == {"broken off": 3}
    with pytest.raises(ConnectionRefusedError):
        load.one("singles", 0)


def test_a_single_call_that_is_not_answered_is_no_time(load: Load) -> None:
    assert load.one("singles", 0)["seconds"] > 0
    load.take("singles", ["{"])
    with pytest.raises(RuntimeError, match="'400': 1"):
        load.one("singles", 0)


def test_engine_and_service_are_measured_by_turns_on_the_same_documents(
    server: Server, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.http._SETTLE_SECONDS", 0.0)
    engine, load = Direct(Engine()), Direct(Load())
    engine.ask("open", cpus=CPUS, model=str(tiny_folder))
    load.ask("open", cpus=CPUS, port=server.port)
    mixed = Slice("mixed_40", "mixed", [DOCUMENTS], 1)
    hand_over(engine, load, mixed, Slice("words_500", "words", [DOCUMENTS[:3]], 1))  # type: ignore[arg-type]
    over: list[int] = []
    measured = measure(engine, load, 2, 3, over.append)  # type: ignore[arg-type]
    assert over == [1, 2, 3]
    assert measured.answers == {"200": 2 * (2 + 40)}  # the first round does not count
    rounds = (measured.batches, measured.singles, measured.engine_batches, measured.engine_singles)
    assert [len(seconds) for seconds in rounds] == [2] * 4
    assert len(measured.calls) == len(measured.engine_calls) == 6


def test_ratios_are_taken_round_by_round_and_latency_by_its_99th_percentile() -> None:
    measured = Measured(
        engine_batches=[1.0, 4.0, 2.0],
        engine_singles=[2.0, 8.0, 4.0],
        batches=[1.25, 4.0, 4.0],
        singles=[2.0, 4.0, 8.0],
        engine_calls=[0.01] * 98 + [0.1, 9.0],
        calls=[0.02] * 98 + [0.15, 0.1],
        answers=Counter({"200": 1}),
    )
    found = report(measured, 100)
    assert found["throughput"]["batches_of_engine"] == {"median": 0.8, "lowest": 0.5, "highest": 1.0}
    assert found["throughput"]["singles_of_engine"]["median"] == 0.5
    assert found["throughput"]["singles_of_engine_with_as_many_callers"]["median"] == 1.0
    assert found["throughput"]["batches_documents_per_second"] == 25
    assert found["latency"]["p99_of_engine"] == pytest.approx(1.0)  # 0.1 s of both
    assert found["latency"]["p50_of_engine"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "same"),
        ({"score": 0.501}, "close"),
        ({"score": 0.502}, "other"),
        ({"start": 1}, "other"),
        ({"text": "x"}, "other"),
    ],
)
def test_answers_may_differ_by_a_thousandth_in_their_scores_alone(change: dict[str, Any], kind: str) -> None:
    entity = {"type": "ORG", "start": 0, "end": 3, "text": "OFAC", "score": 0.5, "field": "text"}

    def answer(of: dict[str, Any], labels: list[dict[str, Any]]) -> str:
        return orjson.dumps({"results": [{"entities": [of], "labels": labels}]}).decode()

    labels = [{"label": "a", "score": 0.5}, {"label": "b", "score": 0.5}]
    assert compare(answer(entity, labels), answer(entity | change, labels)) == kind
    if not change:
        swapped = [{"label": "b", "score": 0.5}, {"label": "a", "score": 0.499}]
        assert compare(answer(entity, labels), answer(entity, swapped)) == "close"
        assert compare(answer(entity, labels), answer(entity, labels[:1])) == "other"


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, None),
        ({"answers": {"200": 5, "503": 1}}, "1 x 503"),
        ({"answers": {"200": 5, "429": 2, "429 without Retry-After": 1}}, "without Retry-After"),
        ({"answers": {"200": 5, "broken off": 1}}, "broken off"),
        ({"answers_beside_the_engine": {"same": 4, "other": 1}}, "not the engine's"),
        ({"alive": False}, "stopped"),
    ],
)
def test_a_broken_promise_is_named(change: dict[str, Any], broken: str | None) -> None:
    kept = {"answers": {"200": 5, "429": 9}, "answers_beside_the_engine": {"same": 5}, "alive": True}
    found = broken_promises(kept | change)
    assert found == [] if broken is None else broken in found[0]


def test_the_same_number_is_the_same_request_and_every_kind_comes() -> None:
    first, again = ([fuzzed(3, number) for number in range(3000)] for _ in range(2))
    assert first == again
    assert fuzzed(4, 0).raw != fuzzed(3, 0).raw
    kinds = Counter(request.kind for request in first)
    assert len(kinds) == 12
    assert all(b"\r\n\r\n" in request.raw for request in first if request.whole)


def test_fuzzed_requests_find_no_fault_here(tiny_folder: Path) -> None:
    settings = Settings(
        model=tiny_folder,
        threads=1,
        head_seconds=5,
        body_seconds=1,
        max_body_bytes=1_000_000,
        log_level="error",
    )
    with Server(settings) as server:
        outcome = uvloop.run(send(server.port, 13, range(600), lambda over: None))
        assert outcome.faults == {}
        assert sum(sum(counts.values()) for counts in outcome.answers.values()) == 600
        assert outcome.answers["sound"].keys() <= {"200", "422"}


def test_a_fault_is_found(server: Server) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    server.slow(fail)
    outcome = uvloop.run(send(server.port, 13, range(100), lambda over: None))
    assert outcome.faults["answered 500"]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (Answer(200, {"content-type": "application/json"}, b"{}"), None),
        (Answer(200, {"content-type": "application/json"}, b"{"), "an answer that is no JSON"),
        (Answer(200, {"content-type": "application/x-ndjson"}, b"{}\n{\n"), "an answer that is no JSON"),
        (Answer(503, {"content-type": "application/problem+json"}, b"{}"), None),
        (Answer(502, {"content-type": "application/problem+json"}, b"{}"), "answered 502"),
        (Answer(404, {"content-type": "text/plain"}, b"no"), "404 as text/plain"),
        (Answer(404, {}, b""), "404 as nothing"),
    ],
)
def test_what_is_wrong_with_an_answer(answer: Answer, wrong: str | None) -> None:
    assert wrong_with(answer, Fuzzed("sound", b"")) == wrong


def test_an_outcome_counts_by_kind_and_status() -> None:
    outcome = Outcome()
    for status in ("200", "200", "422"):
        outcome.add(Fuzzed("sound", b""), status)
    assert outcome.answers == {"sound": {"200": 2, "422": 1}}


def test_an_announcement_is_not_the_answer_and_a_head_has_no_body(server: Server) -> None:
    async def ask() -> tuple[Answer, Answer]:
        link = await Link.to(server.port)
        asked = post("/v1/analyze", b'{"documents": []}').replace(
            b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1
        )
        announced = await link.ask(asked)
        head = await link.ask(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", has_body=False)
        assert not link.is_open
        with pytest.raises(BrokenOff):
            await link.ask(asked)
        return announced, head

    announced, head = uvloop.run(ask())
    assert (announced.status, orjson.loads(announced.body)["results"]) == (200, [])
    assert (head.status, head.body) == (200, b"")


def test_a_served_process_answers_and_ends(tiny_folder: Path, tmp_path: Path) -> None:
    with Served(tiny_folder, CPUS[:1], tmp_path / "log", max_documents="7") as served:
        assert orjson.loads(served.get("/v1/model"))["limits"]["max_documents"] == 7
        assert served.metric("embargo_queue_tokens") == 0
        assert served.rss_bytes() > 10_000_000
    assert not served.is_alive
