"""`embargo serve` as a process: it drains, ends streams, and replaces killed workers."""

import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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
