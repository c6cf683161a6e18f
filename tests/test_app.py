"""The HTTP contract: order, ids, errors an item, problem+json, pages without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.testclient import TestClient

from serving.app import create_app
from serving.errors import ModelFolderError
from serving.model_folder import ModelFolder
from serving.settings import Settings


@pytest.fixture(scope="module")
def client(tiny_folder: Path) -> Iterator[TestClient]:
    settings = Settings(model=tiny_folder, threads=2, max_documents=50, max_body_bytes=1_000_000)
    with TestClient(create_app(settings), raise_server_exceptions=False) as made:
        yield made


def post(client: TestClient, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    sent = {"content-type": "application/json"} | headers
    return client.post("/v1/analyze", content=content, headers=sent)  # type: ignore[return-value]


def test_results_keep_order_and_ids(client: TestClient) -> None:
    documents = [
        {"id": "b", "text": "Oil and coal."},
        {"text": "Two workers."},
        {"id": 7, "text": "The bank.", "title": "Port", "published_at": "2024-01-01"},
        {"id": "b", "text": "Again."},
    ]
    answer = post(client, {"documents": documents}).json()
    assert [result["id"] for result in answer["results"]] == ["b", "1", 7, "b"]
    assert all(result["error"] is None for result in answer["results"])
    assert set(answer["model"]) == {"name", "version", "sha256"}


def test_a_bad_item_carries_its_error_and_the_others_are_read(client: TestClient) -> None:
    items = [{"text": "oil"}, {"text": 5}, "oil", {"text": " "}, {"id": [], "text": "oil"}, {"id": "x"}]
    results = post(client, {"documents": items}).json()["results"]
    codes = [r["error"] and r["error"]["code"] for r in results]
    assert codes == [None, "not_text", "invalid_document", "empty", "invalid_document", "not_text"]
    assert [r["id"] for r in results] == ["0", "1", "2", "3", "4", "x"]
    assert all(r["labels"] is r["entities"] is None for r in results if r["error"])


def test_a_lone_surrogate_is_the_error_of_its_item(client: TestClient) -> None:
    body = rb'{"documents": [{"text": "oil \ud800"}, {"text": "coal"}]}'
    results = post(client, body).json()["results"]
    assert [r["error"] and r["error"]["code"] for r in results] == ["lone_surrogate", None]


@pytest.mark.parametrize("id_", [rb'"\ud800"', b"1" + b"0" * 23, b"true", b"1.5"])
def test_an_id_that_cannot_be_echoed_costs_no_other(client: TestClient, id_: bytes) -> None:
    body = (
        b'{"documents": [{"id": '
        + id_
        + rb', "text": "oil"}, {"id": "b", "text": "a\ud800"}, {"text": "x"}]}'
    )
    results = post(client, body).json()["results"]
    assert [r["id"] for r in results] == ["0", "b", "2"]
    assert [r["error"] and r["error"]["code"] for r in results] == [
        "invalid_document",
        "lone_surrogate",
        None,
    ]


def test_the_length_limit_is_a_setting(tiny_folder: Path) -> None:
    with TestClient(create_app(Settings(model=tiny_folder, max_characters=10))) as short:
        results = post(short, {"documents": [{"text": "oil"}, {"text": "oil " * 5}]}).json()["results"]
        assert [r["error"] and r["error"]["code"] for r in results] == [None, "too_long"]
        assert short.get("/v1/model").json()["limits"]["max_characters"] == 10


def test_offsets_are_exact_in_each_unit(client: TestClient) -> None:
    text = "👷 Two workers in Vladivostok 🚢 said é oil"
    for unit, encoding, width in (
        ("codepoint", "utf-32-le", 4),
        ("utf16", "utf-16-le", 2),
        ("utf8", "utf-8", 1),
    ):
        options = {"offset_unit": unit, "min_score": 0}
        answer = post(client, {"documents": [{"text": text}], "options": options})
        entities = answer.json()["results"][0]["entities"]
        assert entities
        for entity in entities:
            raw = text.encode(encoding)[width * entity["start"] : width * entity["end"]]
            assert raw.decode(encoding) == entity["text"]


def test_evidence_only_on_request(client: TestClient) -> None:
    body = {"documents": [{"text": "Oil."}], "options": {"min_score": 0}}
    plain = post(client, body).json()["results"][0]["labels"]
    body["options"] = {"min_score": 0, "evidence": True}
    rich = post(client, body).json()["results"][0]["labels"]
    assert plain
    assert not any("evidence" in label for label in plain)
    assert all(label["evidence"] for label in rich)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"documents": [', 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        ([], 422),
        ({}, 422),
        ({"documents": "oil"}, 422),
        ({"documents": [], "options": {"offset_unit": "bytes"}}, 422),
        ({"documents": [], "options": {"min_score": 2}}, 422),
        ({"documents": [], "options": {"unknown": 1}}, 422),
        ({"documents": [], "options": {"labels": "no"}}, 422),
        ({"documents": [], "options": {"min_score": "0.5"}}, 422),
        (b'{"documents": [], "options": {"min_score": NaN}}', 400),
        ({"documents": [{"text": "oil"}] * 51}, 413),
        ({"documents": [{"text": "x" * 1_000_000}]}, 413),
    ],
)
def test_malformed_requests_are_problems(client: TestClient, body: Any, status: int) -> None:
    response = post(client, body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"]


def test_another_media_type_is_415(client: TestClient) -> None:
    response = post(client, {"documents": []}, **{"content-type": "text/plain"})
    assert (response.status_code, response.headers["content-type"]) == (415, "application/problem+json")


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    for response, status in ((client.get("/nope"), 404), (client.get("/v1/analyze"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"


def test_health_readiness_and_model(client: TestClient, tiny_folder: Path) -> None:
    sha256 = ModelFolder.open(tiny_folder).sha256
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json()["model"]["sha256"] == sha256
    card = client.get("/v1/model").json()
    assert card["sha256"] == sha256
    assert len(card["labels"]) == 16
    assert len(card["types"]) == 13
    assert card["limits"]["max_documents"] == 50


def test_docs_need_no_network(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for line in page.splitlines():
        for attribute in ('src="', 'href="'):
            if attribute in line:
                address = line.split(attribute)[1].split('"')[0]
                assert client.get(address).status_code == 200, address
    document = client.get("/openapi.json").json()
    assert {"AnalyzeRequest", "DocumentIn", "OptionsIn", "AnalyzeResponse", "ProblemOut"} <= set(
        document["components"]["schemas"]
    )
    described = document["paths"]["/v1/analyze"]["post"]["responses"]
    assert {"200", "400", "413", "415", "422"} <= set(described)


def test_a_wrong_model_folder_stops_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelFolderError, match="not a folder"),
        TestClient(create_app(Settings(model=tmp_path / "none"))),
    ):
        pass
