"""score -> pull-review -> a person corrects -> import -> train -> evaluate, as docs/review.md says it."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from serving.errors import CorpusError
from serving.model_folder import ModelFolder
from serving.offsets import OffsetMap
from tests.conftest import ROOT
from tests.corpora import jsonl
from tests.test_formats import documents
from training.cli import app
from training.corpus import AnnotatedDocument, Span, read_corpus, write_corpus
from training.formats import FORMATS, REVIEWS, Losses
from training.markup import parse_markup
from training.review import Suggestion
from training.schema import Schema

Gold = Mapping[str, AnnotatedDocument]
Tool = Callable[[Path, Path, Gold], None]
"""What a person does: imports a file, corrects its documents, exports them."""

PLACES = ("Vladivostok", "Rajin", "Port Sel", "Ōsaka", "Kuma Bay", "Mary's Reach")


def gold(number: int) -> AnnotatedDocument:
    """An invented story with an emoji, CRLF and a title, every second one also in the title."""
    place = PLACES[number % len(PLACES)]
    title, title_entities = parse_markup(f"👷 Tanker [[Ojo {number}|VESSEL]] listed" if number % 2 else "")
    words = " ".join(f"{place.split()[0].lower()}{number}x{n}" for n in range(30))
    text, entities = parse_markup(
        f"The tanker [[Ojo {number}|VESSEL]] 😀 with [[coal|GOODS]]\r\nin [[{place}|LOCATION]] on "
        f"[[Monday|DATE]].\r\n\r\n{words}"
    )
    return AnnotatedDocument(
        id=f"d{number}",
        text=text,
        entities=entities,
        cats=("commodity_trade", "alleged_violation") if number % 3 else ("maritime_evasion", "designation"),
        title=title or None,
        title_entities=title_entities,
        published_at=f"2026-0{1 + number % 4}-11",
    )


def label_studio(tasks_file: Path, export: Path, wanted: Gold) -> None:
    """Submitted predictions become annotations; the tool numbers tasks, and counts in UTF-16."""
    tasks = orjson.loads(tasks_file.read_bytes())
    for number, task in enumerate(tasks, start=700):
        correct = wanted[task["data"]["id"]]
        result = [r for r in task.pop("predictions")[0]["result"] if r["type"] == "choices"]
        result[0]["value"]["choices"] = list(correct.cats or ())
        for field, name in (("text", "label"), ("title", "title_label")):
            text = task["data"][field]
            units = OffsetMap(text, "utf16")
            spans = correct.entities if field == "text" else correct.title_entities
            result += [
                {
                    "id": f"r{span.start}",
                    "from_name": name,
                    "to_name": field,
                    "type": "labels",
                    "origin": "manual",
                    "value": {
                        "start": units(span.start),
                        "end": units(span.end),
                        "text": text[span.start : span.end],
                        "labels": [span.type],
                    },
                }
                for span in spans
            ]
        task |= {"id": number, "annotations": [{"was_cancelled": False, "result": result}]}
    export.write_bytes(orjson.dumps(tasks))


def doccano(rows_file: Path, export: Path, wanted: Gold) -> None:
    """The tool numbers documents and spans; what it does not know it hands back as it came."""
    lines = []
    for number, line in enumerate(rows_file.read_bytes().splitlines(), start=700):
        row = orjson.loads(line)
        correct = wanted[row["document_id"]]
        shift = len(correct.title) + 2 if correct.title else 0
        spans = [*correct.title_entities]
        spans += [replace(s, start=s.start + shift, end=s.end + shift) for s in correct.entities]
        row["entities"] = [
            {"id": n, "label": span.type, "start_offset": span.start, "end_offset": span.end}
            for n, span in enumerate(spans)
        ]
        lines.append({**row, "id": number, "cats": list(correct.cats or ()), "relations": [], "Comments": []})
    export.write_bytes(jsonl(lines))


TOOLS: dict[str, Tool] = {"label-studio": label_studio, "doccano": doccano}


def embargo(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("tool", TOOLS)
def test_the_loop_runs(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, backbone_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = [gold(number) for number in range(12)]
    rows = [{"id": d.id, "title": d.title, "text": d.text, "published_at": d.published_at} for d in archive]
    Path("archive.jsonl").write_bytes(jsonl(rows))
    Path("datasets").mkdir()
    shutil.copy(ROOT / "datasets" / "schema.toml", "datasets")
    Path("corpus").mkdir()
    for at, split in enumerate(("train", "dev", "test")):
        write_corpus(Path("corpus", f"{split}.jsonl"), [gold(20 + 4 * at + n) for n in range(4)])

    embargo("score", "archive.jsonl", "-o", "scored.jsonl", "--with-text", "--model", tiny_folder)
    asked = ["--format", tool, "--count", 6, "--model", tiny_folder, "--without", "corpus"]
    said = embargo("data", "pull-review", "scored.jsonl", "-o", "review.json", *asked)
    assert "Wrote 6 documents" in said
    wanted = {document.id: document for document in archive}
    TOOLS[tool](Path("review.json"), Path("export.json"), wanted)
    embargo("data", "import", "export.json", "--format", tool, "-o", "reviewed.jsonl")
    reviewed = list(read_corpus(Path("reviewed.jsonl")))
    assert len(reviewed) == 6
    assert reviewed == [wanted[document.id] for document in reviewed]
    embargo("data", "validate", "reviewed.jsonl")

    Path("tiny.toml").write_text("window_size = 32\nwindow_stride = 20\nepochs = 1\nmin_steps = 1\n")
    model = Path("build/models/mine-v1")
    start = ["--from", backbone_folder, "--name", model.name, "--config", "tiny.toml"]
    embargo("train", "--data", "corpus", "--extra", "reviewed.jsonl", *start)
    manifest = orjson.loads((model / "manifest.json").read_bytes())
    assert "reviewed.jsonl" in manifest["data"]["train"]
    embargo("evaluate", "--model", model, "--data", "corpus/test.jsonl")
    assert Path("build/reports/mine-v1/report.json").is_file()

    again = embargo(
        "data", "pull-review", "scored.jsonl", "-o", "next.json", *asked, "--without", "reviewed.jsonl"
    )
    picked = Path("next.json").read_text(encoding="utf-8")
    assert "Wrote 6 documents" in again
    assert not any(f'"{document.id}"' in picked for document in reviewed)


def reviewed_by(tool: str, corpus: list[AnnotatedDocument], model: ModelFolder) -> list[AnnotatedDocument]:
    """Suggestions that a person agreed with, imported."""
    with TemporaryDirectory() as folder:
        suggestions, export = Path(folder, "review.json"), Path(folder, "export")
        REVIEWS[tool]([Suggestion(document, 0.5) for document in corpus], suggestions, model)
        TOOLS[tool](suggestions, export, {document.id: document for document in corpus})
        losses = Losses()
        found = list(FORMATS[tool].read(export, losses))
        assert not losses.counts
        return found


def told_apart(corpus: Iterable[AnnotatedDocument]) -> list[AnnotatedDocument]:
    return [replace(document, id=str(at), cats=document.cats or ()) for at, document in enumerate(corpus)]


@pytest.mark.parametrize("tool", TOOLS)
def test_titles_emoji_and_line_breaks_come_back_exactly(tool: str, tiny_folder: Path) -> None:
    model = ModelFolder.open(tiny_folder)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(documents(), min_size=1, max_size=3))
    def check(corpus: list[AnnotatedDocument]) -> None:
        given_documents = told_apart(corpus)
        assert reviewed_by(tool, given_documents, model) == given_documents

    check()


def written(tool: str, folder: Path, model: ModelFolder) -> list[Path]:
    document = AnnotatedDocument("a", "coal\r\nKim 👷", (Span(6, 9, "PERSON"),), ("relief",), title="Kim")
    return REVIEWS[tool]([Suggestion(document, 0.75)], folder / "r.json", model)


def test_label_studio_gets_predictions_and_an_interface(
    tmp_path: Path, tiny_folder: Path, schema: Schema
) -> None:
    tasks_file, interface = written("label-studio", tmp_path, ModelFolder.open(tiny_folder))
    (task,) = orjson.loads(tasks_file.read_bytes())
    assert "annotations" not in task
    assert (task["predictions"][0]["model_version"], task["predictions"][0]["score"]) == ("tiny 1", 0.25)
    view = ElementTree.fromstring(interface.read_text(encoding="utf-8"))
    texts = {tag.get("name"): tag.get("value") for tag in view.iter("Text")}
    assert texts == {"title": "$title", "text": "$text"}
    for labels in view.iter("Labels"):
        assert [label.get("value") for label in labels] == list(schema.types)
    assert [choice.get("value") for choice in view.iter("Choice")] == list(schema.labels)
    used = {(r["from_name"], r["to_name"]) for r in task["predictions"][0]["result"]}
    defined = {(tag.get("name"), tag.get("toName")) for tag in view if tag.get("toName")}
    assert used <= defined


def test_a_task_that_nobody_submitted_is_left_out_and_counted(tmp_path: Path, tiny_folder: Path) -> None:
    tasks_file, _ = written("label-studio", tmp_path, ModelFolder.open(tiny_folder))
    losses = Losses()
    assert list(FORMATS["label-studio"].read(tasks_file, losses)) == []
    assert losses.counts == {"task without an annotation": 1}


def test_doccano_gets_the_title_in_the_text_and_lists_of_names(
    tmp_path: Path, tiny_folder: Path, schema: Schema
) -> None:
    rows_file, categories, spans = written("doccano", tmp_path, ModelFolder.open(tiny_folder))
    (row,) = [orjson.loads(line) for line in rows_file.read_bytes().splitlines()]
    assert (row["text"], row["entities"]) == ("Kim\n\ncoal\r\nKim 👷", [[11, 14, "PERSON"]])
    assert [label["text"] for label in orjson.loads(categories.read_bytes())] == list(schema.labels)
    assert [label["text"] for label in orjson.loads(spans.read_bytes())] == list(schema.types)


def test_a_span_over_title_and_text_is_counted_and_an_edited_text_refused(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "text": "Kim\n\ncoal",
        "entities": [[0, 7, "GOODS"]],
        "title_length": 3,
        "cats": [],
    }
    path = tmp_path / "export.jsonl"
    path.write_bytes(jsonl([row]))
    losses = Losses()
    (document,) = FORMATS["doccano"].read(path, losses)
    assert (document.title, document.text, document.entities) == ("Kim", "coal", ())
    assert losses.counts == {"span over title and text": 1}
    path.write_bytes(jsonl([{**row, "text": "Kim and coal"}]))
    with pytest.raises(CorpusError, match="no blank line after the title of 3 characters"):
        list(FORMATS["doccano"].read(path, losses))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["-o", "r.json", "--format", "conll"], "expected one of label-studio, doccano"),
        (["-o", "r.xml", "--format", "label-studio"], "end it in .json or .jsonl"),
        (["-o", "r.json", "--format", "doccano", "--without", "none"], "holds no train, dev or test"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, asked: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["data", "pull-review", "o.jsonl", "--model", str(tiny_folder), *asked]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, CorpusError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())
