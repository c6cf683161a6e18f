"""The service under many callers: cancelled work, keys, ids, swaps, numbers, cache."""

import json
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx
import orjson
import pytest
from starlette.testclient import TestClient

from serving.app import _swap, create_app
from serving.calls import Silent
from serving.errors import ModelFolderError
from serving.loaded import ServedModel
from serving.model_folder import ModelFolder
from serving.problems import problem
from serving.settings import Settings
from tests.servers import NDJSON, Server, body


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
    assert "embargo_cancelled_total 1.0" in httpx.get(f"{server.url}/metrics").text
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
        assert "embargo_cancelled_total 0.0" in httpx.get(f"{server.url}/metrics").text
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
        assert client.get("/metrics").status_code == 401


def test_a_key_may_be_of_any_bytes(tiny_folder: Path) -> None:
    key = "schlüssel-à".encode()  # its last byte is a space to Latin-1
    with TestClient(create_app(Settings(model=tiny_folder, api_keys=(sha256(key).hexdigest(),)))) as client:
        for headers in ([(b"x-api-key", key)], [(b"authorization", b"Bearer " + key)]):
            assert client.get("/v1/model", headers=headers).status_code == 200
        assert client.get("/v1/model", headers=[(b"x-api-key", key[:-1])]).status_code == 401


def test_a_file_that_is_replaced_while_a_model_is_loaded_is_noticed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "served"
    shutil.copytree(tiny_folder, folder)
    open_folder = ModelFolder.open

    def and_replace(path: Path) -> ModelFolder:
        opened = open_folder(path)
        (folder / "config.json").write_bytes(b"{}")
        return opened

    with monkeypatch.context() as patch:
        patch.setattr("serving.loaded.ModelFolder.open", and_replace)
        served = ServedModel(Settings(model=folder, threads=1), Silent())
    with pytest.raises(ModelFolderError):
        served.check()


def test_pages_that_ask_for_a_key_load_without_one(tiny_folder: Path) -> None:
    settings = Settings(model=tiny_folder, api_keys=(sha256(b"secret").hexdigest(),))
    with TestClient(create_app(settings)) as client:
        for path in ("/", "/page/page.js", "/docs", "/static-offline-docs/swagger-ui.css", "/openapi.json"):
            assert client.get(path).status_code == 200
        for path in ("/pages", "/page", "/v1/analyze", "/none"):
            assert client.get(path).status_code == 401
        assert client.post("/").status_code == 401
        document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert document["security"] == [{name: []} for name in schemes]
    assert (schemes["bearer"]["scheme"], schemes["header"]["name"]) == ("bearer", "X-API-Key")
    open_paths = {
        path
        for path, held in document["paths"].items()
        if held["get" if "get" in held else "post"].get("security") == []
    }
    assert open_paths == {"/healthz", "/readyz", "/presidio/health"}


def test_without_keys_no_scheme_is_documented(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert "security" not in document


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
    settings = Settings(model=tiny_folder, cors_origins=("https://desk.example",), api_keys=("0" * 64,))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        for path, status in (("/healthz", 200), ("/v1/model", 401), ("/readyz", 500)):
            if status == 500:
                client.app.state.service = None  # type: ignore[attr-defined]
            answer = client.get(path, headers=origin)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://desk.example"
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
            assert answer.headers["x-request-id"]


def test_numbers_for_prometheus(server: Server) -> None:
    httpx.post(f"{server.url}/v1/analyze", json=body("oil", " ", "coal"))
    text = httpx.get(f"{server.url}/metrics").text
    assert 'http_requests_total{method="POST",route="/v1/analyze",status="200"} 1.0' in text
    assert 'embargo_documents_total{outcome="read"} 2.0' in text
    assert 'embargo_documents_total{outcome="empty"} 1.0' in text
    assert "embargo_queue_tokens 0.0" in text
    for name in ("embargo_batch_tokens", "embargo_tokenise_seconds", "embargo_inference_seconds"):
        assert f"{name}_count" in text


def test_a_stream_does_not_count_as_a_slow_request(server: Server) -> None:
    for headers in (NDJSON, {"content-type": "application/json"}):
        httpx.post(f"{server.url}/v1/analyze", content=b'{"documents": [], "text": "oil"}\n', headers=headers)
    text = httpx.get(f"{server.url}/metrics").text
    for stream in ("true", "false"):
        counted = f'http_request_duration_seconds_count{{route="/v1/analyze",stream="{stream}"}} 1.0'
        assert counted in text


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
    with TestClient(create_app(Settings(model=tiny_folder, cache_bytes=1_000_000))) as client:
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
