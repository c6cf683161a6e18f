"""Clients of others work by a changed URL: Hugging Face's own, and one that speaks Presidio."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient, close_session
from huggingface_hub.errors import HfHubHTTPError
from starlette.testclient import TestClient

from serving.app import create_app
from serving.settings import Settings
from tests.servers import Server

TEXT = "👷 Two workers in Vladivostok 🚢 said é oil of Russia on Monday"


@pytest.fixture(scope="module")
def server(tiny_folder: Path) -> Iterator[Server]:
    with Server(Settings(model=tiny_folder, threads=2, max_documents=50, max_characters=5_000)) as running:
        yield running


@pytest.fixture(scope="module")
def hub(server: Server) -> Iterator[InferenceClient]:
    yield InferenceClient(token="unused")
    close_session()  # it is the library's, not the client's


def native(server: Server, text: str, **options: Any) -> dict[str, Any]:
    body = {"documents": [{"text": text}], "options": options}
    (result,) = httpx.post(f"{server.url}/v1/analyze", json=body).json()["results"]
    return result


def post(server: Server, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body)


def problem(answer: httpx.Response, status: int = 422) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    detail: str = answer.json()["detail"]
    return detail


def test_the_hubs_client_reads_the_same_spans(server: Server, hub: InferenceClient) -> None:
    expected = native(server, TEXT)["entities"]
    assert expected
    found = hub.token_classification(TEXT, model=f"{server.url}/hf/token-classification")
    assert [(s.entity_group, s.word, s.start, s.end, s.score) for s in found] == [
        (e["type"], e["text"], e["start"], e["end"], e["score"]) for e in expected
    ]
    assert all(TEXT[span.start : span.end] == span.word for span in found)


def test_the_hubs_parameters_for_spans_are_honoured_or_refused(server: Server, hub: InferenceClient) -> None:
    url = f"{server.url}/hf/token-classification"
    every = hub.token_classification(TEXT, model=url, aggregation_strategy="max")
    ignored = every[0].entity_group
    rest = hub.token_classification(TEXT, model=url, ignore_labels=[ignored])
    assert rest == [span for span in every if span.entity_group != ignored]
    for wrong, said in (({"aggregation_strategy": "none"}, "single tokens"), ({"stride": 8}, "windows")):
        with pytest.raises(HfHubHTTPError, match=said) as refused:
            hub.token_classification(TEXT, model=url, **wrong)
        assert refused.value.response.status_code == 422


def test_the_hubs_client_reads_every_label_best_first(server: Server, hub: InferenceClient) -> None:
    url = f"{server.url}/hf/text-classification"
    found = hub.text_classification(TEXT, model=url, function_to_apply="sigmoid")
    card = httpx.get(f"{server.url}/v1/model").json()
    assert {label.label for label in found} == {label["name"] for label in card["labels"]}
    scores = [label.score for label in found]
    assert scores == sorted(scores, reverse=True)
    by_name = {label.label: label.score for label in found}
    held = native(server, TEXT, min_score=0)["labels"]
    assert held
    assert all(by_name[label["label"]] == label["score"] for label in held)
    assert hub.text_classification(TEXT, model=url, top_k=2) == found[:2]
    for function in ("softmax", "none"):
        with pytest.raises(HfHubHTTPError, match="sigmoid"):
            hub.text_classification(TEXT, model=url, function_to_apply=function)


def test_a_list_of_inputs_gives_a_list_each(server: Server) -> None:
    texts = [TEXT, "Oil.", TEXT]
    spans = post(server, "/hf/token-classification", {"inputs": texts}).json()
    alone = post(server, "/hf/token-classification", {"inputs": TEXT}).json()
    assert (len(spans), spans[0], spans[2]) == (3, alone, alone)
    labels = post(server, "/hf/text-classification", {"inputs": texts, "parameters": {"top_k": 1}}).json()
    assert [len(rows) for rows in labels] == [1, 1, 1]
    assert post(server, "/hf/text-classification", {"inputs": "Oil."}).json()[0][0] == labels[1][0]
    assert post(server, "/hf/token-classification", {"inputs": []}).json() == []


def test_old_clients_may_wait_for_the_model(server: Server) -> None:
    body = {"inputs": "Oil.", "options": {"wait_for_model": True, "use_cache": False}}
    assert post(server, "/hf/text-classification", body).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/hf/token-classification", {}, "inputs"),
        ("/hf/token-classification", {"inputs": 5}, "a list of strings"),
        ("/hf/token-classification", {"inputs": ["oil", None]}, "item 1 is of JSON type null"),
        ("/hf/token-classification", {"inputs": ["oil", " "]}, "inputs.1: empty"),
        ("/hf/token-classification", {"inputs": "oil " * 2_000}, "inputs: too_long"),
        ("/hf/token-classification", {"inputs": "oil", "parameters": {"top_k": 1}}, "parameters.top_k"),
        ("/hf/text-classification", {"inputs": "oil", "parameters": {"top_k": 0}}, "parameters.top_k"),
        ("/hf/text-classification", {"inputs": {"text": "a", "text_pair": "b"}}, "JSON type object"),
        ("/presidio/analyze", {"text": "oil"}, "language"),
        ("/presidio/analyze", {"text": "oil", "language": "ru"}, "'ru'"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "entities": ["US_SSN", "ORG"]}, "US_SSN"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "score_threshold": 2}, "score_threshold"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "context": ["port"]}, "context"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "ad_hoc_recognizers": [{}]}, "ad_hoc"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "trace": True}, "trace"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "regex_flags": 2}, "regex_flags"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "allow_list_match": "regex"}, "exact"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "correlation_id": "a b"}, "correlation_id"),
        ("/presidio/analyze", {"text": "oil", "language": "en", "unknown": 1}, "unknown"),
        ("/presidio/analyze", {"text": ["oil", ""], "language": "en"}, "text.1: empty"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(server: Server, path: str, body: Any, said: str) -> None:
    assert said in problem(post(server, path, body))


@pytest.mark.parametrize("path", ["/hf/token-classification", "/hf/text-classification", "/presidio/analyze"])
def test_the_services_limits_and_errors_hold(server: Server, path: str) -> None:
    many = {"inputs": ["oil"] * 51} if path.startswith("/hf") else {"text": ["oil"] * 51, "language": "en"}
    assert "50" in problem(post(server, path, many), 413)
    headers = {"content-type": "application/x-ndjson"}
    problem(httpx.post(f"{server.url}{path}", content=b"{}", headers=headers), 415)
    headers = {"content-type": "application/json"}
    problem(httpx.post(f"{server.url}{path}", content=b"{", headers=headers), 400)
    surrogate = (
        rb'{"inputs": "\ud800"}' if path.startswith("/hf") else rb'{"text": "\ud800", "language": "en"}'
    )
    answer = httpx.post(f"{server.url}{path}", content=surrogate, headers=headers)
    assert "lone_surrogate" in problem(answer)


def test_all_shapes_wait_in_one_line_and_leave_it(tiny_folder: Path) -> None:
    with Server(Settings(model=tiny_folder, threads=1, max_queue_tokens=100)) as busy:
        free = threading.Event()
        busy.slow(lambda: free.wait(20))
        long = "oil " * 200
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{busy.url}/hf/token-classification", json={"inputs": long}, timeout=0.5)
        free.set()
        while busy.service.admission.unanswered:  # its caller has left
            time.sleep(0.01)
        assert "embargo_cancelled_total 1.0" in httpx.get(f"{busy.url}/metrics").text
        free.clear()
        with ThreadPoolExecutor(4) as callers:
            taken = [
                callers.submit(post, busy, "/hf/token-classification", {"inputs": long}) for _ in range(4)
            ]
            while busy.service.admission.unanswered < 100:
                time.sleep(0.01)
            refused = post(busy, "/presidio/analyze", {"text": long, "language": "en"})
            problem(refused, 429)
            assert int(refused.headers["retry-after"]) >= 1
            free.set()
            assert [answer.result().status_code for answer in taken] == [200] * 4


class PresidioClient:
    """What callers of Presidio's analyzer do, in short."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def analyze(self, text: str | list[str], **parameters: Any) -> Any:
        answer = self._http.post("/analyze", json={"text": text, "language": "en", **parameters})
        answer.raise_for_status()
        return answer.json()

    def supported_entities(self) -> list[str]:
        found: list[str] = self._http.get("/supportedentities", params={"language": "en"}).json()
        return found

    def health(self) -> httpx.Response:
        return self._http.get("/health")


@pytest.fixture(scope="module")
def presidio(server: Server) -> Iterator[PresidioClient]:
    with httpx.Client(base_url=f"{server.url}/presidio") as http:
        yield PresidioClient(http)


PRESIDIO_NAMES = {"ORG": "ORGANIZATION", "NORP": "NRP", "DATE": "DATE_TIME"}


def test_presidios_client_reads_the_same_spans_under_its_names(
    server: Server, presidio: PresidioClient
) -> None:
    text = " ".join(f"Monday {i} {TEXT}" for i in range(8))  # long enough for many types
    expected = native(server, text)["entities"]
    found = presidio.analyze(text)
    assert [(f["entity_type"], f["start"], f["end"], f["score"]) for f in found] == [
        (PRESIDIO_NAMES.get(e["type"], e["type"]), e["start"], e["end"], e["score"]) for e in expected
    ]
    assert {f["entity_type"] for f in found} & set(PRESIDIO_NAMES.values())
    assert all(set(f) == {"entity_type", "start", "end", "score", "analysis_explanation"} for f in found)
    assert presidio.analyze([text, text]) == [found, found]


def test_presidios_filter_takes_either_name(server: Server, presidio: PresidioClient) -> None:
    text = " ".join(f"Monday {i} {TEXT}" for i in range(8))
    every = presidio.analyze(text)
    renamed = next(f["entity_type"] for f in every if f["entity_type"] in PRESIDIO_NAMES.values())
    ours = next(name for name, theirs in PRESIDIO_NAMES.items() if theirs == renamed)
    wanted = [f for f in every if f["entity_type"] == renamed]
    assert presidio.analyze(text, entities=[renamed]) == wanted != every
    assert presidio.analyze(text, entities=[ours]) == wanted
    assert presidio.analyze(text, entities=[]) == every


def test_presidios_threshold_and_allow_list_leave_out(presidio: PresidioClient) -> None:
    every = presidio.analyze(TEXT)
    middle = sorted(f["score"] for f in every)[len(every) // 2]
    assert presidio.analyze(TEXT, score_threshold=middle) == [f for f in every if f["score"] >= middle]
    first = TEXT[every[0]["start"] : every[0]["end"]]
    kept = [f for f in every if TEXT[f["start"] : f["end"]] != first]
    assert presidio.analyze(TEXT, allow_list=[first], allow_list_match="exact") == kept


def test_presidios_empty_parameters_change_nothing(presidio: PresidioClient) -> None:
    empty = {"ad_hoc_recognizers": [], "context": [], "trace": False, "return_decision_process": False}
    assert presidio.analyze(TEXT, **empty) == presidio.analyze(TEXT)


def test_a_decision_is_explained_by_the_model(presidio: PresidioClient) -> None:
    (first, *_) = presidio.analyze(TEXT, return_decision_process=True)
    explanation = first["analysis_explanation"]
    assert explanation["recognizer"] == "tiny-v1"
    assert explanation["score"] == first["score"]
    assert set(explanation) == {
        "recognizer", "pattern_name", "pattern", "original_score", "score", "textual_explanation",
        "score_context_improvement", "supportive_context_word", "validation_result",
    }  # fmt: skip


def test_a_correlation_id_comes_back(server: Server) -> None:
    body = {"text": "oil", "language": "en", "correlation_id": "123e4567-e89b"}
    assert post(server, "/presidio/analyze", body).headers["x-correlation-id"] == "123e4567-e89b"


def test_presidios_lists_and_health(server: Server, presidio: PresidioClient) -> None:
    supported = presidio.supported_entities()
    assert {"PERSON", "ORGANIZATION", "NRP", "DATE_TIME", "LOCATION", "VESSEL"} <= set(supported)
    assert not set(PRESIDIO_NAMES) & set(supported)
    assert presidio.health().status_code == 200
    assert httpx.get(f"{server.url}/presidio/recognizers").json() == ["tiny-v1"]
    problem(httpx.get(f"{server.url}/presidio/supportedentities?language=he"))


def test_all_shapes_are_counted_and_ask_for_a_key(tiny_folder: Path) -> None:
    settings = Settings(model=tiny_folder, api_keys=(sha256(b"secret").hexdigest(),))
    with TestClient(create_app(settings)) as client:
        assert client.get("/presidio/health").status_code == 200
        assert client.post("/hf/token-classification", json={"inputs": "oil"}).status_code == 401
        key = {"authorization": "Bearer secret"}
        client.post("/hf/token-classification", json={"inputs": ["oil", "coal"]}, headers=key)
        client.post("/presidio/analyze", json={"text": "oil", "language": "en"}, headers=key)
        text = client.get("/metrics", headers=key).text
        assert 'embargo_documents_total{outcome="read"} 3.0' in text
        assert 'route="/hf/token-classification",status="200"' in text


def test_the_openapi_document_has_each_route_with_examples(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path in ("/hf/token-classification", "/hf/text-classification", "/presidio/analyze"):
        described = document["paths"][path]["post"]
        asked = described["requestBody"]["content"]["application/json"]
        assert asked["schema"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]
        for example in asked["examples"].values():
            assert post(server, path, example["value"]).status_code == 200
        answered = described["responses"]["200"]["content"]["application/json"]
        assert answered["schema"]
        assert answered["examples"]
        assert {"413", "415", "422", "429", "503"} <= set(described["responses"])
