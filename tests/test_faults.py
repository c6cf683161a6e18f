"""What callers and machines do wrong, and that it costs nobody else."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import orjson
import pytest

from serving.settings import Settings
from tests.conftest import ROOT
from tests.servers import NDJSON, Process, Server, body, lines

JSON = {"content-type": "application/json"}
MIB = 1 << 20


def connect(server: Server | Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def head(*headers: str) -> bytes:
    return "\r\n".join(["POST /v1/analyze HTTP/1.1", "host: x", *headers, "", ""]).encode()


def everything(line: socket.socket) -> bytes:
    """What comes until the other side closes."""
    heard = b""
    try:
        while more := line.recv(65_536):
            heard += more
    except ConnectionResetError:
        pass  # closed while something of ours was still on its way
    return heard


def still_answers(server: Server | Process) -> bool:
    answer = httpx.post(f"{server.url}/v1/analyze", json=body("Oil in Russia."), timeout=60)
    return answer.status_code == 200 and answer.json()["results"][0]["error"] is None


def memory_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak) * 1024


def test_a_body_of_50_mb_is_refused_by_its_head(server: Server) -> None:
    with connect(server) as line:
        line.sendall(head("content-type: application/json", "content-length: 52428800", "connection: close"))
        assert everything(line).startswith(b"HTTP/1.1 413")
    assert still_answers(server)


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_a_body_of_50_mb_that_does_not_say_so_is_not_kept(tiny_folder: Path) -> None:
    with Process(tiny_folder, max_body_bytes="1000000") as served:
        assert still_answers(served)
        before = memory_bytes(served)
        for headers in (JSON, JSON | {"content-encoding": "gzip"}):
            with connect(served) as line:
                line.sendall(head(*(f"{n}: {v}" for n, v in headers.items()), "transfer-encoding: chunked"))
                piece = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
                try:
                    for _ in range(50):
                        line.sendall(piece)
                    line.sendall(b"0\r\n\r\n")
                    line.shutdown(socket.SHUT_WR)
                except ConnectionError:
                    pass  # refused before all was sent
                # Spaces are no gzip: that is seen at the first.
                status = b"400" if "content-encoding" in headers else b"413"
                assert everything(line).startswith(b"HTTP/1.1 " + status)
        assert memory_bytes(served) - before < 20 * MIB
        assert still_answers(served)


@pytest.mark.parametrize("depth", [900, 1_100, 20_000, 1_000_000])
def test_deep_nesting_is_the_callers_error(server: Server, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for content in (
        deep,
        b'{"documents": %s}' % deep,
        b'{"documents": [{"text": %s}]}' % deep,
        b'{"documents": [{"text": "oil", "id": %s}]}' % deep,
        b'{"documents": [], "options": %s}' % deep,
        b'{"documents": [{"text": "\\ud800"}, %s]}' % deep,  # a lone surrogate takes another parser
        b'{"a":' * depth + b"1" + b"}" * depth,
    ):
        for path in ("/v1/analyze", "/hf/token-classification", "/presidio/analyze"):
            answer = httpx.post(f"{server.url}{path}", content=content, headers=JSON, timeout=60)
            if answer.status_code == 200:
                assert all(result["error"] for result in answer.json()["results"])
            else:
                assert answer.status_code in (400, 422)
    for row in httpx.post(
        f"{server.url}/v1/analyze", content=deep + b"\n" + b'{"text": "oil"}', headers=NDJSON, timeout=60
    ).text.splitlines():
        found = orjson.loads(row)
        assert (found["error"] is None) == (found["id"] == "1")


def test_a_nul_is_a_character_like_others_in_a_text_and_an_error_elsewhere(server: Server) -> None:
    text = "Oil\0 of Russia\0 and \0\0 two workers in Vladivostok."
    asked = {"documents": [{"id": "a\0b", "text": text}], "options": {"min_score": 0}}
    (result,) = httpx.post(f"{server.url}/v1/analyze", json=asked).json()["results"]
    assert (result["id"], result["error"]) == ("a\0b", None)
    assert result["entities"]
    assert all(text[e["start"] : e["end"]] == e["text"] for e in result["entities"])
    raw = httpx.post(f"{server.url}/v1/analyze", content=b'{"documents": [{"text": "\0"}]}', headers=JSON)
    assert raw.status_code == 400
    assert httpx.get(f"{server.url}/page/%00").status_code == 404
    assert (
        httpx.post(f"{server.url}/v1/analyze?offset_unit=%00", content=b"", headers=NDJSON).status_code == 422
    )
    with connect(server) as line:
        line.sendall(head("x-request-id: a\0b", "connection: close"))
        assert everything(line).startswith(b"HTTP/1.1 400")
    assert still_answers(server)


def test_a_head_that_does_not_end_is_not_waited_for(tiny_folder: Path) -> None:
    with Server(Settings(model=tiny_folder, head_seconds=0.3)) as server:
        with connect(server) as silent, connect(server) as slow:
            slow.sendall(b"POST /v1/analyze HTT")
            assert still_answers(server)
            assert [everything(line) for line in (silent, slow)] == [b"", b""]
        # Nor after an answer, whatever it begins with.
        for begun in (b"GET /healthz HTTP/1.1\r\nx-a: ", b"\r\n", b"\n"):
            with connect(server) as second:
                second.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                while b"alive" not in second.recv(65_536):
                    pass
                second.sendall(begun)
                assert everything(second) == b""
        with connect(server) as early:  # answered before its body is there
            early.sendall(head("content-type: application/json", "content-length: 52428800"))
            while b"at most" not in early.recv(65_536).lower():
                pass
            early.sendall(b" ")
            assert everything(early) == b""
        # What is whole is answered, however long that takes.
        server.slow(lambda: time.sleep(0.7))
        assert still_answers(server)


def test_a_stream_that_its_caller_leaves_is_not_read_on(server: Server) -> None:
    passes: list[int] = []
    free = threading.Event()

    def wait() -> None:
        passes.append(1)
        free.wait(60)

    with connect(server) as line:
        content = lines(60)
        line.sendall(head("content-type: application/x-ndjson", "transfer-encoding: chunked"))
        line.sendall(b"%x\r\n%s\r\n" % (len(content), content))
        heard = b""
        while b'"error":null' not in heard:
            heard += line.recv(65_536)
        server.slow(wait)
        line.sendall(b"%x\r\n%s\r\n" % (len(content), content))
        while not passes:
            time.sleep(0.01)
    free.set()
    scheduler = server.service.model.current.analyzer.run.scheduler
    while scheduler.pending_tokens or server.service.admission.unanswered:
        time.sleep(0.01)
    assert still_answers(server)


def test_a_body_that_breaks_off_is_let_go(server: Server) -> None:
    with connect(server) as line:
        line.sendall(head("content-type: application/json", "content-length: 1000") + b'{"documents": [')
        while not server.service.held.bytes:
            time.sleep(0.01)
    while server.service.held.bytes:
        time.sleep(0.01)
    assert still_answers(server)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("fault", ["missing", "tampered", "incomplete"])
def test_a_model_that_cannot_be_served_is_one_line(
    tiny_folder: Path, tmp_path: Path, fault: str, workers: str
) -> None:
    folder = tmp_path / "served"
    if fault != "missing":
        shutil.copytree(tiny_folder, folder)
    if fault == "tampered":
        with (folder / "model.onnx").open("r+b") as graph:
            graph.write(b"\0")
    if fault == "incomplete":
        (folder / "tokenizer.json").unlink()
    code = "from training.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "serve",
        "--model",
        str(folder),
        "--port",
        "0",
        "--workers",
        workers,
    ]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    named = {"missing": b"not a folder", "tampered": b"model.onnx", "incomplete": b"tokenizer.json"}[fault]
    assert named in done.stderr.splitlines()[-1]


def test_a_model_folder_that_goes_away_is_told_and_the_model_goes_on(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    shutil.copytree(tiny_folder, folder)
    with Process(folder) as served:
        shutil.rmtree(folder)
        assert httpx.get(f"{served.url}/readyz").status_code == 503
        assert still_answers(served)
        served.process.send_signal(signal.SIGHUP)
        refused = 'embargo_model_loads_total{result="refused"} 1.0'
        while refused not in httpx.get(f"{served.url}/metrics").text:
            time.sleep(0.05)
        assert still_answers(served)
    errors = [json.loads(row) for row in served.errors.splitlines() if b'"ERROR"' in row]
    assert [row["message"].startswith("model not replaced") for row in errors] == [True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the disk that is always full is Linux's")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_for_logs_stops_no_answer(tiny_folder: Path, workers: str) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        Process(tiny_folder, "--workers", workers, stderr=full) as served,
    ):
        for _ in range(3):
            assert still_answers(served)
        assert httpx.post(f"{served.url}/v1/analyze", content=b"{", headers=JSON).status_code == 400
    assert served.process.returncode in (0, -signal.SIGTERM)
