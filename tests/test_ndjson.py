"""A document a line in, a result a line out, in order, while the caller waits or not."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import orjson
import pytest

from serving import api
from serving.settings import Settings
from tests.servers import NDJSON, Server, body, lines

MIB = 1 << 20


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
    assert codes == [None, "invalid_document", "invalid_document", "too_long", None]
    assert "5000 bytes" in found[3]["error"]["message"]


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_that_is_left_keeps_its_places_until_its_threads_have_ended(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, free = threading.Semaphore(0), threading.Event()
    parse_line = api.parse_line

    def slowly(line: bytes | None, number: int, limit: int) -> object:
        begun.release()
        assert free.wait(30)
        return parse_line(line, number, limit)

    monkeypatch.setattr("serving.api.parse_line", slowly)
    with Server(Settings(model=tiny_folder, max_queue_tokens=100)) as server:
        service = server.service
        long = b'{"text": "%s"}\n' % (b"oil " * 200)
        # Each is charged a quarter of the limit, and together they have half.
        for at_work, waiting in ((1, 0), (2, 0), (2, 1)):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
                stream_of(line)
                send(line, long)
                if waiting:
                    wait_until(lambda: service.admission._waiting)
                else:
                    assert begun.acquire(timeout=30)
            wait_until(lambda count=at_work: len(service.abandoned) == count)
            assert service.streams.borrowed_tokens == at_work
            assert service.admission.unanswered == 25 * at_work
        # Whoever waited for room has left; nobody is let in for it.
        wait_until(lambda: all(turn.cancelled() for _, turn in service.admission._waiting))
        free.set()
        wait_until(lambda: not service.abandoned)
        assert service.streams.borrowed_tokens == service.admission.unanswered == 0
        answer = httpx.post(f"{server.url}/v1/analyze", content=lines(3), headers=NDJSON, timeout=60)
        assert len(answer.text.splitlines()) == 3


def test_options_of_a_stream_stand_in_the_query(server: Server) -> None:
    def ask(query: str) -> httpx.Response:
        return httpx.post(f"{server.url}/v1/analyze?{query}", content=lines(1), headers=NDJSON)

    row = orjson.loads(ask("evidence=true&labels=true&entities=false&min_score=0&offset_unit=utf8").content)
    assert row["entities"] is None
    assert row["labels"][0]["evidence"]
    for wrong in ("min_score=2", "unknown=1", "labels=maybe", "offset_unit=bytes"):
        assert ask(wrong).status_code == 422


def stream_of(line: socket.socket, *further: str) -> None:
    """Send the head of a stream without end."""
    head = ["POST /v1/analyze HTTP/1.1", "host: x", "content-type: application/x-ndjson", *further]
    line.sendall("\r\n".join([*head, "transfer-encoding: chunked", "", ""]).encode())


def send(line: socket.socket, content: bytes) -> None:
    line.sendall(b"%x\r\n%s\r\n" % (len(content), content))


def heard_until(line: socket.socket, end: bytes) -> bytes:
    heard = b""
    while end not in heard:
        more = line.recv(65_536)
        assert more, heard
        heard += more
    return heard


def test_between_lines_there_may_be_any_pause_and_within_one_not(tiny_folder: Path) -> None:
    with (
        Server(Settings(model=tiny_folder, body_seconds=0.3)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as line,
    ):
        stream_of(line)
        for _ in range(2):
            send(line, b'{"text": "oil"}\n')
            heard_until(line, b'"error":null')
            time.sleep(0.6)
        send(line, b'{"text": "coal"}\n{"text": "gr')
        heard = heard_until(line, b"\r\n0\r\n")
        assert heard.index(b'"error":null') < heard.index(b'"code":"Line too slow"')


def test_lines_that_are_not_finished_are_bounded_over_all_streams(tiny_folder: Path) -> None:
    settings = Settings(model=tiny_folder, max_body_bytes=MIB // 2, body_seconds=5)  # 2 MiB for streams
    with Server(settings) as server, ExitStack() as open_lines:
        held = server.service.held
        for _ in range(8):
            line = open_lines.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            stream_of(line, "content-encoding: gzip")
            send(line, gzip.compress(b'{"text": "' + b"o" * MIB))
        while held.bytes < MIB:
            time.sleep(0.01)
        # Many short lines find their way past them.
        answer = httpx.post(f"{server.url}/v1/analyze", content=lines(600), headers=NDJSON, timeout=60)
        assert len(answer.text.splitlines()) == 600
        assert held.bytes <= 2 * MIB
    while held.bytes:
        time.sleep(0.01)


@pytest.mark.parametrize("cut", [True, False])
def test_what_came_before_broken_bytes_is_answered(server: Server, cut: bool) -> None:
    packed = gzip.compress(lines(150))
    content = packed[:-6] if cut else packed + b"no gzip"
    headers = {**NDJSON, "content-encoding": "gzip"}
    answer = httpx.post(f"{server.url}/v1/analyze", content=content, headers=headers, timeout=60)
    *found, fault = [orjson.loads(row) for row in answer.text.splitlines()]
    assert [row["id"] for row in found] == [f"d{i}" for i in range(150)]
    assert all(row["error"] is None for row in found)
    assert fault["error"]["code"] == "Broken gzip"
    while server.service.held.bytes:
        time.sleep(0.01)


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
