"""The command line: JSON when piped, one clear line when something is wrong."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from serving import terminal
from serving.analyzer import Analyzer
from serving.errors import EmbargoError, ModelFolderError
from serving.results import Analysis, Document, Entity, Options
from tests.conftest import ROOT
from training.cli import app


def embargo(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(sys.executable).parent / "embargo"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=ROOT)


def test_analyze_prints_json_when_piped(tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("Oil workers in Vladivostok.", encoding="utf-8")
    from_file = embargo("analyze", path, "--model", tiny_folder)
    from_stdin = embargo("analyze", "-", "--model", tiny_folder, stdin=path.read_bytes())
    assert from_file.returncode == from_stdin.returncode == 0, from_file.stderr
    first, second = orjson.loads(from_file.stdout), orjson.loads(from_stdin.stdout)
    assert first["id"] == str(path)
    assert first["entities"] == second["entities"]
    assert first["model"]["name"] == "tiny"


@pytest.mark.parametrize("unit", ["codepoint", "utf16"])
def test_a_picture_is_saved_besides_the_json(tiny_folder: Path, tmp_path: Path, unit: str) -> None:
    text, svg = "👷👷 Oil workers in Vladivostok.", tmp_path / "a.svg"
    asked = ("analyze", "-", "--model", tiny_folder, "--min-score", "0", "--offset-unit", unit)
    plain, pictured = (embargo(*asked, *more, stdin=text.encode()) for more in ([], ["--json", "--svg", svg]))
    assert pictured.returncode == 0, pictured.stderr
    assert orjson.loads(pictured.stdout) == orjson.loads(plain.stdout)
    entities = orjson.loads(pictured.stdout)["entities"]
    wide, width = (text.encode("utf-16-le"), 2) if unit == "utf16" else (text.encode("utf-32-le"), 4)
    assert [wide[width * e["start"] : width * e["end"]] for e in entities] == [
        e["text"].encode("utf-16-le" if unit == "utf16" else "utf-32-le") for e in entities
    ]
    first = entities[0]
    assert f"{first['text']}" in svg.read_text(encoding="utf-8").replace("&#160;", " ")


def test_a_file_name_may_be_of_any_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/story-\xff.txt"
    Path(os.fsdecode(path)).write_text("Oil workers in Vladivostok.", encoding="utf-8")
    done = embargo("analyze", os.fsdecode(path), "--model", tiny_folder)
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["id"] == path.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe\xfa", "not UTF-8"), (b"  ", "none that can be read")]
)
def test_a_text_that_cannot_be_read_is_one_line(tiny_folder: Path, content: bytes, message: str) -> None:
    done = embargo("analyze", "-", "--model", tiny_folder, stdin=content)
    assert done.returncode == 1
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    done = embargo("analyze", "-", "--model", tmp_path / "none", stdin=b"oil")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "not a folder" in done.stderr.decode()


def test_a_setting_that_is_no_list_is_one_line(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARGO_API_KEYS", "secret")
    done = CliRunner().invoke(app, ["serve", "--model", str(tiny_folder)])
    assert isinstance(done.exception, EmbargoError)
    assert "api_keys" in str(done.exception)
    assert "JSON" in str(done.exception)


def test_an_altered_model_starts_no_workers(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(tiny_folder, folder)
    with (folder / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    done = CliRunner().invoke(app, ["serve", "--model", str(folder), "--workers", "2"])
    assert isinstance(done.exception, ModelFolderError)


@pytest.mark.parametrize("command", ["serve", "analyze", "score", "train", "evaluate", "export", "data"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_terminal_view_shows_text_spans_and_labels(tiny: Analyzer) -> None:
    text = "Oil and [coal] in Vladivostok.\nTwo workers."
    analysis = tiny.analyze([Document(text)], Options(evidence=True, min_score=0.0))[0]
    console = Console(record=True, width=200, file=io.StringIO())
    terminal.show(text, analysis, console=console)
    shown = console.export_text()
    assert analysis.entities
    assert analysis.labels
    for entity in analysis.entities:
        assert f"{entity.text} {entity.type}" in shown or "\n" in entity.text
    assert analysis.labels[0].label in shown
    assert "[coal" in shown  # brackets of the text are not taken for rich's markup


def test_colours_come_again_when_there_are_more_span_types() -> None:
    types = [f"T{n}" for n in range(60)]
    entities = tuple(Entity(type_, n, n + 1, "a", 0.9, "text") for n, type_ in enumerate(types))
    console = Console(record=True, width=500, file=io.StringIO())
    terminal.show("a" * 60, Analysis(id="0", labels=(), entities=entities), console)
    shown = console.export_text()
    assert all(f" {type_}" in shown for type_ in types)
