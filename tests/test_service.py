"""The service under many callers: streams, refusals, cancelled work, keys, swaps, numbers."""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
import uvicorn
from starlette.testclient import TestClient

from serving.admission import Admission, estimated_tokens
from serving.app import _swap, create_app
from serving.bodies import Held
from serving.errors import RequestError
from serving.forward import Batch, TokenOutputs
from serving.problems import problem
from serving.settings import Settings
from tests.conftest import ROOT

NDJSON = {"content-type": "application/x-ndjson"}


class Server:
    """A service on a port of its own, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()

    @property
    def service(self) -> Any:
        return self.app.state.service

    def slow(self, wait: Callable[[], object]) -> None:
        """Make every forward pass wait first."""
        passes = self.service.model.current.analyzer.run.passes
        forward = passes.forward

        def slowly(batch: Batch) -> TokenOutputs:
            wait()
            outputs: TokenOutputs = forward(batch)
            return outputs

        passes.forward = slowly


@pytest.fixture
def server(tiny_folder: Path) -> Iterator[Server]:
    with Server(Settings(model=tiny_folder, threads=2, max_line_bytes=5_000)) as running:
        yield running


def body(*texts: str) -> dict[str, Any]:
    return {"documents": [{"text": text} for text in texts]}


def lines(count: int) -> bytes:
    rows = ({"id": f"d{i}", "text": f"Oil in Russia {i}. " * (i % 7 + 1)} for i in range(count))
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def test_a_stream_gives_a_line_a_document_in_order(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/analyze", content=lines(150), headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = [orjson.loads(line) for line in answer.text.splitlines()]
    assert [row["id"] for row in found] == [f"d{i}" for i in range(150)]
    assert all(row["model"]["sha256"] and row["error"] is None for row in found)
    alone = httpx.post(f"{server.url}/v1/analyze", json=body("Oil in Russia 0. ")).json()["results"][0]
    assert found[0]["entities"] == alone["entities"]


def test_bad_lines_are_answered_by_error_lines(server: Server) -> None:
    content = b'{"text": "oil"}\n\nnot json\n[1]\n{"text": "%s"}\n{"id": 9, "text": "coal"}' % (b"x" * 6_000)
    answer = httpx.post(f"{server.url}/v1/analyze?min_score=0.2", content=content, headers=NDJSON)
    found = [orjson.loads(line) for line in answer.text.splitlines()]
    assert [row["id"] for row in found] == ["0", "1", "2", "3", 9]
    codes = [row["error"] and row["error"]["code"] for row in found]
    assert codes == [None, "invalid_document", "invalid_document", "invalid_document", None]
    assert "5000 bytes" in found[3]["error"]["message"]


def test_options_of_a_stream_stand_in_the_query(server: Server) -> None:
    def ask(query: str) -> httpx.Response:
        return httpx.post(f"{server.url}/v1/analyze?{query}", content=lines(1), headers=NDJSON)

    row = orjson.loads(ask("evidence=true&labels=true&entities=false&min_score=0&offset_unit=utf8").content)
    assert row["entities"] is None
    assert row["labels"][0]["evidence"]
    for wrong in ("min_score=2", "unknown=1", "labels=maybe", "offset_unit=bytes"):
        assert ask(wrong).status_code == 422


def test_a_caller_may_wait_for_each_answer(server: Server) -> None:
    answered = threading.Semaphore(1)
    received: list[str] = []

    def questions() -> Iterator[bytes]:
        for number in range(5):
            assert answered.acquire(timeout=20)
            yield orjson.dumps({"id": f"q{number}", "text": "oil"}) + b"\n"

    # A connection that sends and receives at once: two threads on one socket.
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(
            b"POST /v1/analyze HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for question in questions():
            line.sendall(b"%x\r\n%s\r\n" % (len(question), question))
            heard = b""
            while b'"error":null' not in heard:
                heard += line.recv(65_536)
            received.append(orjson.loads(heard[heard.index(b"{") : heard.rindex(b"}") + 1])["id"])
            answered.release()
        line.sendall(b"0\r\n\r\n")
    assert received == [f"q{n}" for n in range(5)]


def test_gzip_both_ways(server: Server) -> None:
    documents = body(*["Oil and coal in Russia. " * 20] * 20)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    packed = gzip.compress(orjson.dumps(documents))
    answer = httpx.post(f"{server.url}/v1/analyze", content=packed, headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["results"]) == 20
    streamed = httpx.post(
        f"{server.url}/v1/analyze", content=gzip.compress(lines(40)),
        headers={**NDJSON, "content-encoding": "gzip"},
    )  # fmt: skip
    assert streamed.headers["content-encoding"] == "gzip"
    assert len(streamed.text.splitlines()) == 40


def test_a_stream_in_an_unknown_encoding_is_415(server: Server) -> None:
    headers = {**NDJSON, "content-encoding": "br"}
    assert httpx.post(f"{server.url}/v1/analyze", content=b"x", headers=headers).status_code == 415


def test_gzip_is_not_sent_where_it_is_refused(server: Server) -> None:
    headers = {**NDJSON, "accept-encoding": "gzip;q=0, identity"}
    answer = httpx.post(f"{server.url}/v1/analyze", content=lines(1), headers=headers)
    assert "content-encoding" not in answer.headers


def test_bodies_beyond_what_memory_is_for_are_refused() -> None:
    held = Held(100)
    with held.body() as one, held.body() as other:
        one(60)
        with pytest.raises(RequestError) as refused:
            other(41)
        other(40)
        assert (refused.value.status, held.bytes) == (429, 100)
    assert held.bytes == 0


def test_all_members_of_a_gzip_are_read(server: Server) -> None:
    content = b"".join(gzip.compress(line) for line in lines(3).splitlines(keepends=True))
    headers = {**NDJSON, "content-encoding": "gzip"}
    answer = httpx.post(f"{server.url}/v1/analyze", content=content, headers=headers)
    assert len(answer.text.splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"{}")[:-6], "gzip", 400),
        (gzip.compress(b"{}") + b"junk", "gzip", 400),
        (b"{}", "br", 415),
    ],
)
def test_broken_packing_is_a_problem(server: Server, content: bytes, encoding: str, status: int) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = httpx.post(f"{server.url}/v1/analyze", content=content, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(tiny_folder: Path) -> None:
    with TestClient(create_app(Settings(model=tiny_folder, max_body_bytes=1_000_000))) as client:
        packed = gzip.compress(b" " * 500_000_000, 1)
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        assert client.post("/v1/analyze", content=packed, headers=headers).status_code == 413


def test_a_slow_body_is_given_up(tiny_folder: Path) -> None:
    async def ask(url: str) -> httpx.Response:
        async def trickle() -> Any:
            yield b'{"documents": ['
            await anyio.sleep(2)
            yield b"]}"

        async with httpx.AsyncClient(timeout=20) as client:
            headers = {"content-type": "application/json"}
            return await client.post(f"{url}/v1/analyze", content=trickle(), headers=headers)

    with Server(Settings(model=tiny_folder, body_seconds=0.2)) as server:
        assert anyio.run(ask, server.url).status_code == 408


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


def test_what_a_caller_left_is_not_run(server: Server) -> None:
    free = threading.Event()
    passes: list[int] = []

    def wait() -> None:
        passes.append(1)
        free.wait(20)

    server.slow(wait)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/analyze", json=body(*["oil " * 300] * 200), timeout=0.5)
    scheduler = server.service.model.current.analyzer.run.scheduler
    while scheduler.pending_tokens:
        time.sleep(0.01)
    free.set()
    assert httpx.post(f"{server.url}/v1/analyze", json=body("oil")).status_code == 200
    assert len(passes) <= 3
    while server.service.admission.unanswered:
        time.sleep(0.01)


def test_an_answer_that_takes_too_long_is_503(tiny_folder: Path) -> None:
    with Server(Settings(model=tiny_folder, threads=1, answer_seconds=0.2)) as server:
        free = threading.Event()
        server.slow(lambda: free.wait(20))
        answer = httpx.post(f"{server.url}/v1/analyze", json=body("oil " * 100), timeout=20)
        # Another try would take as long.
        assert (answer.status_code, answer.json()["title"]) == (503, "Too slow")
        assert "retry-after" not in answer.headers
        # The pass still runs: nobody waits for it, and its place is given to others.
        while server.service.admission.unanswered:
            time.sleep(0.01)
        free.set()


def test_many_callers_get_their_own_answers(server: Server) -> None:
    def ask(number: int) -> None:
        text = f"Oil of {'Russia ' * (number % 9 + 1)}and {number}"
        result = httpx.post(f"{server.url}/v1/analyze", json={"documents": [{"id": number, "text": text}]})
        (found,) = result.json()["results"]
        assert found["id"] == number
        assert all(text[e["start"] : e["end"]] == e["text"] for e in found["entities"])

    with ThreadPoolExecutor(32) as callers:
        list(callers.map(ask, range(200)))


def test_keys_are_asked_for_where_they_are_set(tiny_folder: Path) -> None:
    settings = Settings(model=tiny_folder, api_keys=(sha256(b"secret").hexdigest(),))
    with TestClient(create_app(settings)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        refused = client.get("/v1/model")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for headers in ({"x-api-key": "wrong"}, {"authorization": "Basic secret"}, {"x-api-key": ""}):
            assert client.get("/v1/model", headers=headers).status_code == 401
        for headers in ({"x-api-key": "secret"}, {"authorization": "Bearer secret"}):
            assert client.get("/v1/model", headers=headers).status_code == 200


def test_a_plain_key_is_no_setting(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="sha256sum"):
        Settings(model=tiny_folder, api_keys=("secret",))


def test_ids_and_safe_headers_come_with_every_answer(server: Server) -> None:
    answer = httpx.get(f"{server.url}/nope", headers={"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.head(f"{server.url}/readyz").status_code == 200
    odd = httpx.get(f"{server.url}/healthz", headers={"x-request-id": "a b"})
    assert len(odd.headers["x-request-id"]) == 32


def test_an_unexpected_error_is_counted_and_has_an_id_and_safe_headers(server: Server) -> None:
    def fail() -> None:
        raise RuntimeError("quotes a document")

    server.slow(fail)
    answer = httpx.post(f"{server.url}/v1/analyze", json=body("oil"), headers={"x-request-id": "abc-2"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-request-id"] == "abc-2"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "quotes" not in answer.text
    counted = 'http_requests_total{method="POST",route="/v1/analyze",status="500"} 1.0'
    assert counted in httpx.get(f"{server.url}/metrics").text


def test_a_problem_may_quote_a_lone_surrogate() -> None:
    assert orjson.loads(problem(422, "Invalid", "got \ud800").body)["detail"] == "got ?"


def test_other_origins_only_where_allowed(tiny_folder: Path) -> None:
    origin = {"origin": "https://desk.example"}
    with TestClient(create_app(Settings(model=tiny_folder))) as client:
        assert "access-control-allow-origin" not in client.get("/healthz", headers=origin).headers
    settings = Settings(model=tiny_folder, cors_origins=("https://desk.example",))
    with TestClient(create_app(settings)) as client:
        answer = client.get("/healthz", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://desk.example"


def test_numbers_for_prometheus(server: Server) -> None:
    httpx.post(f"{server.url}/v1/analyze", json=body("oil", " ", "coal"))
    text = httpx.get(f"{server.url}/metrics").text
    assert 'http_requests_total{method="POST",route="/v1/analyze",status="200"} 1.0' in text
    assert 'embargo_documents_total{outcome="read"} 2.0' in text
    assert 'embargo_documents_total{outcome="empty"} 1.0' in text
    assert "embargo_queue_tokens 0.0" in text
    for name in ("embargo_batch_tokens", "embargo_tokenise_seconds", "embargo_inference_seconds"):
        assert f"{name}_count" in text


def test_another_model_takes_over_without_a_lost_request(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    shutil.copytree(tiny_folder, folder)
    with Server(Settings(model=folder, threads=2)) as server:
        before = httpx.get(f"{server.url}/v1/model").json()["sha256"]
        stop = threading.Event()

        def ask() -> set[str]:
            seen = set()
            while not stop.is_set():
                answer = httpx.post(f"{server.url}/v1/analyze", json=body("Oil in Russia."))
                assert answer.status_code == 200
                seen.add(answer.json()["model"]["sha256"])
            return seen

        with ThreadPoolExecutor(4) as callers:
            asking = [callers.submit(ask) for _ in range(4)]
            manifest = orjson.loads((folder / "manifest.json").read_bytes())
            (folder / "manifest.json").write_bytes(orjson.dumps({**manifest, "command": "another"}))
            _swap(server.app)
            time.sleep(0.2)
            stop.set()
            seen = set().union(*(each.result() for each in asking))
        after = httpx.get(f"{server.url}/v1/model").json()["sha256"]
        assert after != before
        assert after in seen <= {before, after}

        replaced = weakref.ref(server.service.model.current.analyzer.run)
        _swap(server.app)
        assert replaced() is None

        (folder / "config.json").write_bytes(b"{}")
        assert httpx.get(f"{server.url}/readyz").status_code == 503
        _swap(server.app)
        (folder / "manifest.json").write_bytes(b'{"files": 5}')
        assert httpx.get(f"{server.url}/readyz").status_code == 503
        _swap(server.app)
        assert httpx.get(f"{server.url}/v1/model").json()["sha256"] == after
        assert 'embargo_model_loads_total{result="refused"} 2.0' in httpx.get(f"{server.url}/metrics").text


def test_texts_that_come_again_are_answered_from_the_cache(tiny_folder: Path) -> None:
    with TestClient(create_app(Settings(model=tiny_folder, cache_documents=10))) as client:
        documents = [
            {"id": "a", "text": "Oil in Russia."},
            {"id": "b", "text": "Oil in Russia."},
            {"id": "c", "text": "in Russia.", "title": "Oil "},
            {"id": "d", "text": "\ud800"},
        ]
        first = client.post("/v1/analyze", json={"documents": documents[:3]})
        content = json.dumps({"documents": documents})  # escapes the lone surrogate
        again = client.post("/v1/analyze", content=content, headers={"content-type": "application/json"})
        assert [r["id"] for r in again.json()["results"]] == ["a", "b", "c", "d"]
        assert again.json()["results"][3]["error"]["code"] == "lone_surrogate"
        assert again.json()["results"][:3] == first.json()["results"]
        other = client.post("/v1/analyze", json={"documents": documents[:1], "options": {"labels": False}})
        assert other.json()["results"][0]["labels"] is None
        assert "embargo_documents_cached_total 4.0" in client.get("/metrics").text


class Process:
    """`embargo serve` as users run it."""

    def __init__(self, model: Path, *flags: str, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        code = "from training.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "--model", str(model), "--port", str(self.port)]
        settings = {f"EMBARGO_{name.upper()}": value for name, value in environment.items()}
        # A file and no pipe: a pipe that nobody empties would stop the service.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, *flags], env={**os.environ, **settings}, stderr=self._log, cwd=ROOT
        )

    def __enter__(self) -> "Process":
        for _ in range(600):
            assert self.process.poll() is None
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("not ready after a minute")

    def __exit__(self, *unused: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        with self._log:
            self._log.seek(0)
            self.errors = self._log.read()

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        # Beside the workers, multiprocessing has a process that tracks resources.
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_what_was_taken_is_answered_before_the_service_stops(tiny_folder: Path) -> None:
    with Process(tiny_folder, drain_seconds="1") as served, ThreadPoolExecutor(1) as callers:
        long = body(*["Oil and coal in Russia. " * 200] * 60)
        answer = callers.submit(httpx.post, f"{served.url}/v1/analyze", json=long, timeout=60)
        time.sleep(0.2)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert httpx.get(f"{served.url}/readyz").status_code == 503
        assert len(answer.result().json()["results"]) == 60
    assert served.process.returncode in (0, -signal.SIGTERM)
    logged = [json.loads(line) for line in served.errors.splitlines() if line.startswith(b"{")]
    (request,) = [row for row in logged if row.get("route") == "/v1/analyze"]
    assert (request["status"], request["method"]) == (200, "POST")
    assert request["request_id"]
    assert b"Russia" not in served.errors


def test_a_stream_without_end_is_ended_when_the_service_stops(tiny_folder: Path) -> None:
    with Process(tiny_folder) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as line:
            question = b'{"text": "oil"}\n'
            line.sendall(
                b"POST /v1/analyze HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
                b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(question), question)
            )
            heard = b""
            while b'"error":null' not in heard:
                heard += line.recv(65_536)
            served.process.send_signal(signal.SIGTERM)
            while more := line.recv(65_536):
                heard += more
        assert b'"code":"Stopping"' in heard
        served.process.wait(timeout=30)


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_a_killed_worker_is_replaced(tiny_folder: Path) -> None:
    with Process(tiny_folder, "--workers", "2", threads="1") as served:
        while len(served.workers()) < 2:
            time.sleep(0.1)
        before = set(served.workers())
        os.kill(before.copy().pop(), signal.SIGKILL)
        answered = 0
        deadline = time.monotonic() + 240  # a loaded machine starts processes slowly
        while time.monotonic() < deadline:
            try:
                answer = httpx.post(f"{served.url}/v1/analyze", json=body("Oil in Russia."), timeout=30)
                assert answer.status_code == 200
                answered += 1
            except httpx.TransportError:
                continue  # it was on its way to the one that was killed
            if len(served.workers()) == 2 and set(served.workers()) != before:
                break
        assert len(served.workers()) == 2
        assert set(served.workers()) != before
        assert answered
        text = httpx.get(f"{served.url}/metrics").text
        counted = [line for line in text.splitlines() if 'route="/v1/analyze",status="200"' in line]
        assert float(counted[0].split()[-1]) >= 1


def test_the_wait_that_is_told_follows_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen: list[int] = []
    admission = Admission(1000, seen.append)
    with admission(250):
        now[0] = 10.0  # 25 tokens a second
    with ExitStack() as taken:
        for _ in range(3):
            taken.enter_context(admission(250))
        taken.enter_context(admission(200))
        with pytest.raises(RequestError) as refused, admission(1_000_000):  # charged 250 of 50 free
            pass
    assert refused.value.headers["Retry-After"] == "8"
    assert (admission.unanswered, max(seen), seen[-1]) == (0, 950, 0)
    assert estimated_tokens(4000) == 1001


def test_streams_wait_for_room_and_leave_half_of_it_to_others() -> None:
    admission = Admission(100)
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
