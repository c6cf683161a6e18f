"""Bodies: packed, broken, too large, too slow, too many."""

import gzip
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
from starlette.testclient import TestClient

from serving.app import create_app
from serving.settings import Settings
from tests.servers import NDJSON, Server, body, lines


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
