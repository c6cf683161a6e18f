"""The released models say through every door what their golden files say they said at release.

`tests/golden/<model>.json` is made by:
embargo analyze docs/example.txt --model models/<model> --json > tests/golden/<model>.json
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from serving import api
from serving.analyzer import Analyzer
from serving.app import create_app
from serving.forward import Batch, OnnxForward, TokenOutputs
from serving.model_folder import ModelFolder
from serving.results import Document, Options
from serving.settings import Settings
from tests.conftest import RELEASED, RELEASED_SMALL, ROOT, SHARED

EXAMPLE = ROOT / "docs" / "example.txt"
TEXT = EXAMPLE.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=[RELEASED, RELEASED_SMALL], ids=lambda path: path.name)
def released(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(scope="module")
def golden(released: Path) -> dict[str, Any]:
    return dict(orjson.loads((ROOT / "tests" / "golden" / f"{released.name}.json").read_bytes()))


@pytest.fixture(scope="module")
def folder(released: Path) -> ModelFolder:
    return ModelFolder.open(released)


@pytest.fixture(scope="module")
def client(released: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(model=released))) as made:
        yield made


@pytest.fixture(scope="module")
def answer(folder: ModelFolder) -> dict[str, Any]:
    """What the library says here, which every other door must say."""
    analysis = Analyzer.load(folder).analyze([Document(TEXT)], Options(evidence=True))[0]
    return dict(orjson.loads(orjson.dumps(api.result_json(analysis))))


def agrees(got: dict[str, Any], golden: dict[str, Any], within: float = 1.1e-3) -> None:
    """Spans and labels are equal, scores near."""
    for part in ("labels", "entities"):
        assert [_without_scores(row) for row in got[part]] == [_without_scores(row) for row in golden[part]]
        assert [row["score"] for row in got[part]] == pytest.approx(
            [row["score"] for row in golden[part]], abs=within
        )
    assert got["coverage"] == golden["coverage"]


def _without_scores(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("score", "evidence")}


def test_through_the_library(answer: dict[str, Any], golden: dict[str, Any]) -> None:
    # Other CPUs round sums otherwise, and int8 makes more of it.
    agrees(answer, golden, within=0.05)


def test_through_http(client: TestClient, answer: dict[str, Any], golden: dict[str, Any]) -> None:
    body = {"documents": [{"text": TEXT}, {"text": "Something else."}], "options": {"evidence": True}}
    got = client.post("/v1/analyze", json=body).json()
    agrees(got["results"][0], answer)
    assert got["model"] == golden["model"]


def test_through_the_command_line(answer: dict[str, Any], released: Path) -> None:
    embargo = str(Path(sys.executable).parent / "embargo")
    command = [embargo, "analyze", str(EXAMPLE), "--model", str(released), "--json"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    agrees(orjson.loads(done.stdout), answer)


def test_golden_finds_what_a_reader_finds(golden: dict[str, Any]) -> None:
    found = {(row["type"], row["text"]) for row in golden["entities"]}
    assert {
        ("LOCATION", "Vladivostok"), ("LEGAL", "UN Security Council Resolution 2397"),
        ("MEASURE", "SDN List"), ("QUANTITY", "214"),
    } <= found  # fmt: skip
    assert "overseas_labour" in {row["label"] for row in golden["labels"]}


def test_the_card_states_what_metrics_say(folder: ModelFolder) -> None:
    metrics = orjson.loads((folder.path / "metrics.json").read_bytes())
    card = (folder.path / "README.md").read_text(encoding="utf-8")
    assert len(metrics) >= 2
    for name, summary in metrics.items():
        assert f"`{name}`" in card
        figures = [summary[key] for key in ("span_micro_f1", "label_macro_f1") if summary[key] is not None]
        assert figures  # a corpus of labels alone has no spans to judge
        assert all(f"{figure:.4f}" in card for figure in figures)


@pytest.mark.parametrize(
    ("story", "label"),
    [
        ("North Korean workers were shown on a building site in Vladivostok by a local television channel.",
         "overseas_labour"),
        ("A city in Russia's Far East showed North Korean labourers on a building site, in breach of a UN "
         "Security Council resolution.", "overseas_labour"),
        ("Two restaurants in Shenyang still employ waitresses from Pyongyang although the UN ordered them "
         "home by December 2019, a monitoring group said.", "overseas_labour"),
        ("The tanker switched off its transponder and took on Iranian crude from another ship at night, "
         "despite U.S. sanctions.", "maritime_evasion"),
        ("The Treasury added a Dubai trading firm to its SDN List on Thursday.", "designation"),
        ("The EU lifted its arms embargo on the island on Monday.", "relief"),
        ("FIFA banned the striker for six matches after he bit an opponent.", "not_sanctions"),
        ("The retailer will open forty shops in Poland next year, its chief executive said on Tuesday.",
         "not_sanctions"),
    ],
)  # fmt: skip
def test_a_story_of_one_sentence_gets_its_label(client: TestClient, story: str, label: str) -> None:
    answer = client.post("/v1/analyze", json={"documents": [{"text": story}]}).json()
    assert label in [given["label"] for given in answer["results"][0]["labels"]]


@pytest.mark.skipif(not (SHARED / "real").is_dir(), reason="reference data not at hand")
def test_real_articles_get_exact_spans_and_sensible_labels(client: TestClient) -> None:
    rows = [orjson.loads(line) for line in (SHARED / "real" / "dev.jsonl").read_bytes().splitlines()[:24]]
    documents = [{"id": row["id"], "text": row["text"]} for row in rows]
    results = client.post("/v1/analyze", json={"documents": documents}).json()["results"]
    hits = total = right = 0
    for row, result in zip(rows, results, strict=True):
        assert result["id"] == row["id"]
        for entity in result["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
        got = {(e["start"], e["end"], e["type"]) for e in result["entities"]}
        wanted = {tuple(span) for span in row["entities"]}
        hits += len(got & wanted)
        total += len(got) + len(wanted)
        labels = {label["label"] for label in result["labels"]}
        right += ("not_sanctions" in labels) == ("not_sanctions" in row["cats"])
    assert 2 * hits / total > 0.8
    assert right >= 0.75 * len(rows)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_pass_on_several_threads_gives_the_same_bits(folder: ModelFolder, threads: int) -> None:
    """Whether a pass has the machine to itself depends on what else is asked; the answer must not."""
    forward = OnnxForward(folder.path / "model.onnx", threads)
    random = np.random.default_rng(threads)
    for windows, tokens in ((1, 3), (1, 17), (7, 33), (1, 110), (1, 301), (1, 512)):
        shape = windows, tokens
        batch = Batch(
            random.integers(1000, 20000, shape), random.integers(0, 4, shape), np.ones(shape, np.int64)
        )
        for alone, spread in zip(forward(batch), forward.wide(batch), strict=True):
            np.testing.assert_array_equal(alone, spread)


def test_a_document_alone_is_read_on_all_threads(
    folder: ModelFolder, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spread: list[int] = []
    wide = OnnxForward.wide

    def noted(self: OnnxForward, batch: Batch) -> TokenOutputs:
        spread.append(len(batch.input_ids))
        return wide(self, batch)

    monkeypatch.setattr(OnnxForward, "wide", noted)
    analyzer = Analyzer.load(folder, threads=2)
    analysis = analyzer.analyze([Document(TEXT)], Options(evidence=True))[0]
    assert spread == [1]
    assert orjson.loads(orjson.dumps(api.result_json(analysis))) == answer
    assert not any(a.error for a in analyzer.analyze([Document(TEXT)] * 8))
    assert len(spread) < 4  # only what was left at the end
