"""The page's files over HTTP: all there, all from here, behind a policy that lets nothing else run."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.app import create_app
from serving.page import FOLDER
from serving.settings import Settings
from tests.conftest import ROOT

FILES = sorted(path.name for path in FOLDER.iterdir())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@pytest.fixture(scope="module")
def client(tiny_folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(model=tiny_folder))) as made:
        yield made


def policy(headers: dict[str, str]) -> dict[str, str]:
    directives = (part.strip().partition(" ") for part in headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in directives}


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES)])
def test_each_file_is_served_behind_the_policy(client: TestClient, path: str) -> None:
    response = client.get(path)
    name = path.rpartition("/")[2] or "index.html"
    assert response.status_code == 200
    assert response.headers["content-type"] == MEDIA_TYPES[Path(name).suffix]
    assert response.content == (FOLDER / name).read_bytes()
    assert response.headers["x-content-type-options"] == "nosniff"
    rules = policy(dict(response.headers))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in response.headers["content-security-policy"]


def test_a_file_that_did_not_change_is_not_sent_again(client: TestClient) -> None:
    for path in ("/", "/page/page.js"):
        tag = client.get(path).headers["etag"]
        again = client.get(path, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert "content-security-policy" in again.headers


def test_other_paths_and_methods_are_problems(client: TestClient) -> None:
    for response, status in (
        (client.get("/page/none.js"), 404),
        (client.get("/page/%2e%2e/page.py"), 404),
        (client.post("/"), 405),
        (client.post("/page/page.js"), 405),
    ):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"


def test_everything_that_the_page_asks_for_is_one_of_its_files(client: TestClient) -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    asked = set(re.findall(r'(?:src|href)="page/([^"]+)"', html))
    for name in SCRIPTS:
        script = (FOLDER / name).read_text(encoding="utf-8")
        asked |= set(re.findall(r'from "\./([^"]+)"', script)) | set(re.findall(r'"page/([^"]+)"', script))
    assert asked == set(FILES) - {"index.html"}
    assert client.get("/docs").status_code == 200
    # An address elsewhere could only be a mistake; the one allowed names the namespace of SVG.
    for name in FILES:
        content = (FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", content), name


def test_no_script_stands_in_the_page_and_none_makes_markup() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", html)
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc"
    for name in SCRIPTS:
        assert not re.search(markup, (FOLDER / name).read_text(encoding="utf-8")), name


def test_the_installed_package_holds_every_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["serving"]
    packaged = {path for pattern in patterns for path in (ROOT / "serving").glob(pattern)}
    assert {FOLDER / name for name in FILES} <= packaged


def test_the_page_stays_out_of_the_api_document(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "/" not in paths
    assert not any(path.startswith("/page") for path in paths)


def test_the_examples_are_varied_and_short_enough_to_read() -> None:
    examples = json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))
    assert len({example["name"] for example in examples}) == len(examples) >= 6
    for example in examples:
        assert set(example) == {"name", "note", "title", "text"}
        assert 80 <= len(example["text"].split()) <= 250, example["name"]
    assert any(example["text"].isupper() for example in examples)
