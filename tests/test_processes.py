"""`embargo serve` as a process: it drains, ends streams, and replaces killed workers."""

import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.servers import Process, body


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_without_end_is_ended_when_the_service_stops(tiny_folder: Path, number: int) -> None:
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
            served.process.send_signal(number)
            while more := line.recv(65_536):
                heard += more
        assert b'"code":"Stopping"' in heard
        served.process.wait(timeout=30)


def test_a_second_interrupt_waits_for_no_request(tiny_folder: Path) -> None:
    with (
        Process(tiny_folder, body_seconds="300") as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=30) as line,
    ):
        head = "POST /v1/analyze HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        line.sendall(f"{head}content-length: 9\r\n\r\n".encode())  # and no body
        assert httpx.get(f"{served.url}/healthz").status_code == 200  # by now the head has been read
        served.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGINT)
        served.process.wait(timeout=60)


CLOSED = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""What a caller sees of a connection that ends; a timeout is none of them."""
ENDS_WITHIN_SECONDS = 60
"""A second is promised; a machine that is busy with other things gets a minute."""


def connections(pid: int, port: int) -> int:
    """Those that a process has accepted on a port and that are open."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    at_port = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    names = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed in this moment
            names.add(os.readlink(path))
    return sum(f"socket:[{inode}]" in names for inode in at_port)


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_a_killed_worker_ends_its_requests_and_is_replaced(tiny_folder: Path) -> None:
    callers = 6
    long = body(*["Oil and coal in Russia. " * 200] * 100)
    ended: list[tuple[int, float]] = []

    def ask() -> int:
        """The status; 0 of a connection that was closed."""
        try:
            status = httpx.post(f"{served.url}/v1/analyze", json=long, timeout=300).status_code
        except CLOSED:
            status = 0
        ended.append((status, time.monotonic()))
        return status

    settings = {"threads": "1", "max_queue_tokens": "10000000"}
    with Process(tiny_folder, "--workers", "2", **settings) as served, ThreadPoolExecutor(callers) as pool:
        while len(served.workers()) < 2:
            time.sleep(0.1)
        before = set(served.workers())
        answers = [pool.submit(ask) for _ in range(callers)]
        while sum((taken := {pid: connections(pid, served.port) for pid in before}).values()) < callers:
            time.sleep(0.01)
        killed = max(before, key=lambda pid: taken[pid])
        os.kill(killed, signal.SIGKILL)
        at = time.monotonic()
        statuses = [answer.result() for answer in answers]
        # The other worker answers its own.
        cut = [seconds for status, seconds in ended if status in (0, 503)]
        assert len(cut) == taken[killed] >= callers // 2
        assert statuses.count(200) == callers - len(cut)
        assert max(cut) - at < ENDS_WITHIN_SECONDS
        deadline = time.monotonic() + 240  # a loaded machine starts processes slowly
        while len(served.workers()) < 2 or set(served.workers()) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for _ in range(10):
            answer = httpx.post(f"{served.url}/v1/analyze", json=body("Oil in Russia."), timeout=300)
            assert answer.status_code == 200
        text = httpx.get(f"{served.url}/metrics", timeout=300).text
        counted = [line for line in text.splitlines() if 'route="/v1/analyze",status="200"' in line]
        assert float(counted[0].split()[-1]) >= 1
