"""A document a line in, a result a line out, in order, while the caller waits or not."""

import socket
import threading
from collections.abc import Iterator

import httpx
import orjson

from tests.servers import NDJSON, Server, body, lines


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
