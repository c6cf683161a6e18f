"""The Python client: against a real service, and against transports that misbehave on purpose."""

import asyncio
import email.utils
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.api import DocumentIn, OptionsIn
from serving.client import AsyncClient, Client
from serving.conversation import Retry, chunked
from serving.errors import BusyError, ProblemError, ServiceError, UnreachableError
from serving.settings import Settings
from tests.servers import Server

READY = {"status": "ready"}
LINE = (
    b'{"model": {"name": "m", "version": "1", "sha256": "0"}, "id": "0", "labels": null, '
    b'"entities": [], "coverage": null, "error": null}\n'
)
TEXT = "👷 Two workers in Vladivostok said é oil"


@pytest.fixture(scope="module")
def server(tiny_folder: Path) -> Iterator[Server]:
    key = sha256(b"secret").hexdigest()
    with Server(Settings(model=tiny_folder, threads=2, max_documents=50, api_keys=(key,))) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, key="secret") as made:
        yield made


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are noted and not waited."""
    noted: list[float] = []

    def note(left: threading.Event, seconds: float) -> bool:
        noted.append(seconds)
        return left.is_set()

    monkeypatch.setattr("serving.client._pause", note)
    return noted


def talking(
    *replies: httpx.Response | Exception, retry: Retry | None = None
) -> tuple[Client, list[httpx.Request]]:
    """A client whose calls get these replies, and the calls."""
    left, calls = list(replies), []

    def reply(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        following = left.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    return Client("http://embargo.example", retry=retry, transport=httpx.MockTransport(reply)), calls


def busy(status: int = 429, **headers: str) -> httpx.Response:
    body = {"title": "Too busy", "status": status, "detail": "come back"}
    return httpx.Response(status, json=body, headers=headers)


def card() -> httpx.Response:
    body = {"name": "m", "version": "1", "sha256": "0", "types": [], "labels": [], "limits": {}}
    return httpx.Response(200, json=body)


def test_texts_and_documents_give_typed_results(client: Client) -> None:
    documents = [TEXT, DocumentIn(id=7, text="Coal.", title="Port"), " ", "\ud800"]
    answer = client.analyze(documents, OptionsIn(evidence=True, min_score=0))
    assert answer.model.name == "tiny"
    assert [result.id for result in answer.results] == ["0", 7, "2", "3"]
    assert [r.error and r.error.code for r in answer.results] == [None, None, "empty", "lone_surrogate"]
    first = answer.results[0]
    assert first.entities
    assert all(TEXT[entity.start : entity.end] == entity.text for entity in first.entities)
    assert first.labels
    assert first.labels[0].evidence


def test_a_stream_keeps_order_and_ids_and_reads_little_ahead(client: Client) -> None:
    taken = 0

    def documents() -> Iterator[str | DocumentIn]:
        nonlocal taken
        for number in range(300):
            taken += 1
            yield f"Oil {number}" if number % 3 else DocumentIn(id=f"d{number}", text=f"Coal {number}")

    stream = client.stream(documents(), OptionsIn(labels=False))
    first = next(stream)
    assert taken <= 64
    found = [first, *stream]
    assert [line.id for line in found] == [str(n) if n % 3 else f"d{n}" for n in range(300)]
    assert all(line.model.name == "tiny" and line.labels is None and line.error is None for line in found)
    assert found[1].entities == client.analyze(["Oil 1"]).results[0].entities


def test_a_stream_may_be_left(client: Client) -> None:
    stream = client.stream(f"Oil {number}" for number in range(100))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert client.analyze(["oil"]).results


@pytest.mark.parametrize("second", ["slow", "busy"])
def test_who_leaves_a_stream_waits_for_no_request(second: str) -> None:
    begun, free, calls = threading.Event(), threading.Event(), []

    def reply(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) == 1:
            return httpx.Response(200, content=LINE * 32)
        begun.set()
        if second == "slow":
            free.wait(10)
        return busy(503, **{"retry-after": "20"})

    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]

    before, at = threads(), time.monotonic()
    with Client("http://embargo.example", transport=httpx.MockTransport(reply)) as client:
        stream = client.stream("oil" for _ in range(100))
        next(stream)
        assert begun.wait(10)
        stream.close()  # type: ignore[attr-defined]
        assert not free.is_set()
        assert time.monotonic() - at < 8
        free.set()
        while set(threads()) - set(before):
            assert time.monotonic() - at < 8
            time.sleep(0.01)


def test_large_documents_fill_a_request_alone() -> None:
    sizes = [len(chunk) for chunk in chunked(["x" * 2_000_000, *["oil"] * 40, "y" * 2_000_000, "coal"])]
    assert sizes == [1, 32, 9, 1]


def test_the_asynchronous_client_does_the_same(server: Server, client: Client) -> None:
    async def texts() -> AsyncIterator[str]:
        for number in range(70):
            yield f"Oil {number}"

    async def ask() -> list[Any]:
        async with AsyncClient(server.url, key="secret") as other:
            assert await other.ready()
            streamed = [line async for line in other.stream(texts())]
            listed = [line async for line in other.stream([f"Oil {number}" for number in range(70)])]
            assert streamed == listed
            left = other.stream(texts())
            await anext(left)
            await left.aclose()  # type: ignore[attr-defined]
            return [await other.analyze([TEXT]), await other.model(), streamed]

    analyzed, model, streamed = asyncio.run(ask())
    assert analyzed == client.analyze([TEXT])
    assert model == client.model()
    assert streamed == list(client.stream(f"Oil {number}" for number in range(70)))


def test_the_model_and_its_readiness(client: Client) -> None:
    assert client.ready()
    known = client.model()
    assert len(known.types) == 13
    assert known.labels[0].threshold >= 0
    assert known.limits["max_documents"] == 50
    with Client("http://127.0.0.1:9") as nobody:
        assert not nobody.ready()


def test_a_problem_is_an_exception_that_says_what_the_service_said(server: Server, client: Client) -> None:
    with pytest.raises(ProblemError, match=r"413 Too many documents: .*at most 50") as refused:
        client.analyze(["oil"] * 51)
    assert (refused.value.status, refused.value.title) == (413, "Too many documents")
    assert refused.value.request_id
    with Client(server.url, key="wrong") as stranger, pytest.raises(ProblemError, match="401"):
        stranger.analyze(["oil"])


def test_busy_services_are_asked_again_and_not_sooner_than_they_told(waits: list[float]) -> None:
    date = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    client, calls = talking(
        busy(**{"retry-after": "3"}), busy(503, **{"retry-after": date}), busy(503), card()
    )
    assert client.model().name == "m"
    assert len(calls) == 4
    assert 3 <= waits[0] <= 3.5
    assert 15 <= waits[1] <= 23
    assert 1 <= waits[2] <= 2


def test_patience_ends(waits: list[float]) -> None:
    client, calls = talking(busy(**{"retry-after": "181"}))
    with pytest.raises(BusyError, match="come back") as refused:
        client.model()
    assert (len(calls), waits, refused.value.retry_after) == (1, [], 181)
    client, calls = talking(*[busy(503)] * 9, retry=Retry(attempts=2))
    with pytest.raises(BusyError):
        client.analyze(["oil"])
    assert (len(calls), len(waits)) == (3, 2)
    client, calls = talking(*[busy(**{"retry-after": "70"})] * 9)
    with pytest.raises(BusyError):
        client.model()
    assert 140 <= sum(waits[2:]) <= 180


def test_a_request_that_was_too_slow_is_not_asked_again(waits: list[float]) -> None:
    client, calls = talking(httpx.Response(503, json={"title": "Too slow", "detail": "send fewer"}))
    with pytest.raises(ProblemError, match="send fewer"):
        client.analyze(["oil"])
    assert (len(calls), waits) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 404, 408, 413, 415, 422, 500, 502, 301])
def test_what_is_final_is_not_asked_again(waits: list[float], status: int) -> None:
    client, calls = talking(httpx.Response(status, text="no"), card())
    with pytest.raises(ProblemError, match=f"{status} .*: no"):
        client.model()
    assert (len(calls), waits) == (1, [])


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.RemoteProtocolError("closed")]
)
def test_broken_connections_are_tried_again(waits: list[float], error: Exception) -> None:
    client, calls = talking(error, card())
    assert client.model().name == "m"
    assert (len(calls), len(waits)) == (2, 1)


def test_a_service_that_is_not_there_is_said_to_be_so(waits: list[float]) -> None:
    client, calls = talking(*[httpx.ConnectError("refused")] * 3, retry=Retry(attempts=2))
    with pytest.raises(UnreachableError, match=r"embargo\.example/v1/model .*refused") as refused:
        client.model()
    assert isinstance(refused.value.__cause__, httpx.ConnectError)
    assert len(calls) == 3
    client, calls = talking(httpx.ReadTimeout("slow"))
    with pytest.raises(UnreachableError, match="slow"):
        client.model()
    assert (len(calls), len(waits)) == (1, 2)


def test_a_part_of_a_stream_is_repeated_whole(waits: list[float]) -> None:
    client, calls = talking(busy(), httpx.ReadError("reset"), httpx.Response(200, content=LINE))
    (line,) = client.stream(["oil"], OptionsIn(labels=False))
    assert line.id == "0"
    assert len({call.content for call in calls}) == 1
    assert calls[0].url.params["labels"] == "false"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1 documents were sent and 0 results"),
        (b'{"error": {"code": "Broken gzip", "message": "The body is no gzip"}}\n', "Broken gzip: The body"),
        (b"not json\n", "no LineOut"),
    ],
)
def test_an_answer_that_is_none_is_an_error(content: bytes, said: str) -> None:
    client, _ = talking(httpx.Response(200, content=content))
    with pytest.raises(ServiceError, match=said):
        list(client.stream(["oil"]))


def test_broken_packing_is_an_error_too(waits: list[float]) -> None:
    broken = httpx.Response(200, stream=httpx.ByteStream(b"no gzip"), headers={"content-encoding": "gzip"})
    client, calls = talking(broken, card())
    with pytest.raises(UnreachableError, match="gave no good answer"):
        client.model()
    assert (len(calls), waits) == (1, [])


def test_a_page_of_another_service_is_an_error() -> None:
    client, _ = talking(httpx.Response(200, json=READY), httpx.Response(200, text="<html>"))
    ask: list[Callable[[], object]] = [client.model, lambda: client.analyze(["oil"])]
    for call in ask:
        with pytest.raises(ServiceError, match="expected an Embargo service"):
            call()
