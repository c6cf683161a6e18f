"""The measurements of the service: what is sent, what is counted, what is called a fault."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from benchmarks import fuzz, http, overload
from benchmarks.asked import bodies_of, calls_of, compare
from benchmarks.engine import Engine
from benchmarks.exchange import Answer, BrokenOff, Link, post
from benchmarks.fuzz import FuzzError, Outcome, send, wrong_at_the_end, wrong_with
from benchmarks.fuzzed import Fuzzed, fuzzed
from benchmarks.http import HttpError, Measured, hand_over, measure, report
from benchmarks.load import Load
from benchmarks.overload import MemoryWatch, OverloadError, broken_promises
from benchmarks.protocol import SystemFailed
from benchmarks.served import Served, beside
from benchmarks.work import Slice
from serving.results import Document
from serving.settings import Settings
from tests.conftest import ROOT
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
    # A timer may go off a little early.
    assert 0.9 * 19 / 50 <= arrived["arriving_seconds"] < arrived["seconds"]
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


def test_a_run_whose_requests_were_refused_is_no_measurement(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed, long = (Slice(name, name, [DOCUMENTS], 1) for name in ("mixed", "words"))
    monkeypatch.setattr("benchmarks.http._SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(
        "benchmarks.http.documents",
        lambda *unused: (mixed, Slice("words", "words", [[long.documents[0]]], 1)),
    )
    monkeypatch.setattr("benchmarks.http.Served", partial(Served, max_queue_tokens="4"))
    asked: dict[str, Any] = {"model": tiny_folder, "data": tmp_path, "count": 40, "rounds": 1, "calls": 1}
    with pytest.raises(HttpError, match="x 429: no figure of this run holds"):
        http.http(**asked, seed=13, output=tmp_path)
    found = orjson.loads((tmp_path / "http.json").read_bytes())
    assert found["answers"]["200"] + found["answers"]["429"] == 40 + 2
    assert "answered 429" in capsys.readouterr().out


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


class Arrivals:
    """A load that reports what it is told to."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self._answers = answers

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return self._answers.get(do, {})


class Gone:
    """A service that has ended, or one that runs and does not answer."""

    port = 1

    def __init__(self, *unused: object, is_alive: bool = False, **settings: str) -> None:
        self.is_alive = is_alive

    def __enter__(self) -> "Gone":
        return self

    def __exit__(self, *unused: object) -> None:
        pass

    def rss_bytes(self) -> int:
        return 0

    def metric(self, name: str) -> float:
        raise ConnectionRefusedError(name)


def test_goodput_is_by_the_seconds_in_which_requests_did_arrive() -> None:
    load = Arrivals(
        lasting={"answers": {"200": 100}, "seconds": 10.0},
        arriving={
            "answers": {"200": 45, "429": 255},
            "in_time": 45,
            "arriving_seconds": 5.0,
            "seconds": 6.0,
            "cpu_seconds": 3.0,
        },
    )
    found = overload._overloaded(Gone(), load, Slice("mixed", "mixed", [DOCUMENTS], 1), 1.0, 3.0, 4.0)  # type: ignore[arg-type]
    assert (found["seconds"], found["goodput_per_second"]) == (5.0, 9.0)
    assert found["goodput_of_peak"] == pytest.approx(0.9)
    assert found["arriving_per_second"] == pytest.approx(30.0)
    assert broken_promises({**found, "answers_beside_the_engine": {}}) == ["the service has stopped"]


def test_a_service_that_answers_nothing_has_no_peak() -> None:
    load = Arrivals(lasting={"answers": {"broken off": 7}, "seconds": 2.0})
    with pytest.raises(OverloadError, match=r"no answer 200 in 2\.0 s but {'broken off': 7}"):
        overload._overloaded(Gone(), load, Slice("mixed", "mixed", [DOCUMENTS], 1), 1.0, 3.0, 4.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("is_alive", "fault"), [(True, "the service does not answer"), (False, "the service has stopped")]
)
def test_a_service_that_dies_is_a_fault_and_the_report_is_written(
    is_alive: bool, fault: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fuzz.Served", partial(Gone, is_alive=is_alive))
    with pytest.raises(FuzzError, match=fault):
        fuzz.fuzz(requests=3, seed=13, model=tiny_folder, only=None, output=tmp_path)
    assert orjson.loads((tmp_path / "fuzz.json").read_bytes())["faults"] == {
        "no connection": [0, 1, 2],
        fault: [2],
    }


def test_a_served_process_answers_and_ends(tiny_folder: Path, tmp_path: Path) -> None:
    with Served(tiny_folder, CPUS[:1], tmp_path / "log", max_documents="7") as served:
        assert orjson.loads(served.get("/v1/model"))["limits"]["max_documents"] == 7
        assert served.metric("embargo_queue_tokens") == 0
        assert wrong_at_the_end(served) is None
        assert served.rss_bytes() > 10_000_000
        with beside("benchmarks.engine", tmp_path / "engine.log", 1) as engine:
            assert _threads(served) == _threads(engine)
        pid = served._process.pid
        watch = MemoryWatch(served)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert served.rss_bytes() == 0
        assert watch.report()["end"] > 0
        with pytest.raises(OSError, match="refused"):
            served.metric("embargo_queue_tokens")
        assert wrong_at_the_end(served) == "the service has stopped"
        assert served.rss_bytes() == 0
    assert not served.is_alive


def _threads(running: Any) -> dict[str, str]:
    """What libraries of a process are told about threads."""
    environment = Path(f"/proc/{running._process.pid}/environ").read_text().split("\0")
    given = dict(line.split("=", 1) for line in environment if line)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM")
    return {name: given[name] for name in names}


def test_what_cannot_be_read_yet_is_not_ready_and_any_other_failure_ends_the_process(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([TimeoutError(), ConnectionResetError(), KeyboardInterrupt()])

    def get(path: str) -> str:
        raise next(failures)

    served = Served(tiny_folder, CPUS[:1], tmp_path / "log")
    monkeypatch.setattr(served, "get", get)
    with pytest.raises(KeyboardInterrupt), served:
        pass
    assert next(failures, None) is None
    assert not served.is_alive


def test_a_service_that_ends_before_it_is_ready_is_named_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemFailed, match="did not become ready; its log is"),
        Served(tmp_path / "no-model", CPUS[:1], tmp_path / "log"),
    ):
        pass
    assert "no-model" in (tmp_path / "log").read_text()


SERVES = """
import asyncio, sys, uvloop
from pathlib import Path
from benchmarks.command import run_command
from benchmarks.served import Served

async def wait():
    print("waiting", flush=True)
    await asyncio.Event().wait()

def serves(model: Path, log: Path, cpu: int):
    with Served(model, [cpu], log) as served:
        print(served._process.pid)
        uvloop.run(wait())

run_command(serves)
"""


def test_a_command_ended_by_sigterm_leaves_no_service_behind(tiny_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVES, str(tiny_folder), str(tmp_path / "log"), str(CPUS[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "waiting\n"
        os.kill(pid, 0)  # it is there
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
