"""Label Studio's JSON of tasks: regions counted in UTF-16 units, as its browser counts.

Spans of the text are regions of `label`, those of the title of `title_label`, labels are the choices of
`cats`: `interface` writes the configuration of a project.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import orjson

from serving.errors import CorpusError
from serving.model_folder import EmbargoConfig, ModelFolder
from serving.offsets import OffsetMap
from training.corpus import AnnotatedDocument, Span
from training.formats.jsonl import text_of
from training.formats.losses import Losses
from training.review import Suggestion

_SPANS = {"text": "label", "title": "title_label"}


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Tasks with their last annotation that was not cancelled."""
    try:
        tasks = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise CorpusError(f"{path}: no JSON list of Label Studio tasks ({error}).") from error
    if not isinstance(tasks, list):
        raise CorpusError(f"{path}: got a {type(tasks).__name__}, expected a list of tasks.")
    for number, task in enumerate(tasks):
        where = f"{path}: task {number}"
        try:
            data = task["data"]
            annotations = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
            if not annotations:
                losses.add("task without an annotation")
                continue
            losses.add("earlier annotation of a task", len(annotations) - 1)
            yield _document(data, annotations[-1]["result"], f"{task.get('id', number)}", where, losses)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CorpusError(
                f"{where} is not Label Studio's ({error!r}); expected data and annotations."
            ) from error


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """A list of tasks with one annotation each, for Label Studio's importer."""
    path.write_bytes(orjson.dumps([_task(document) for document in documents]))


def write_review(suggestions: Iterable[Suggestion], path: Path, model: ModelFolder) -> list[Path]:
    """Tasks whose predictions are the model's annotation, and the labelling interface beside them.

    A task counts as annotated once somebody has submitted it; `read` leaves the others out.
    """
    version = f"{model.config.name} {model.config.version}"
    tasks = [
        {
            "data": _data(one.document),
            # Label Studio lists tasks by this score; the model's certainty is the other way round.
            "predictions": [
                {
                    "model_version": version,
                    "score": round(1 - one.doubt, 3),
                    "result": _results(one.document),
                }
            ],
        }
        for one in suggestions
    ]
    path.write_bytes(orjson.dumps(tasks))
    interface_file = path.with_suffix(".xml")
    interface_file.write_text(interface(model.config), encoding="utf-8")
    return [path, interface_file]


def interface(config: EmbargoConfig) -> str:
    """The labelling configuration of a project for the types and labels of a model."""
    view = Element("View")
    for field in ("title", "text"):
        labels = SubElement(view, "Labels", name=_SPANS[field], toName=field)
        for name in config.type_names():
            SubElement(labels, "Label", value=name)
        SubElement(view, "Text", name=field, value=f"${field}")
    choices = SubElement(view, "Choices", name="cats", toName="text", choice="multiple")
    for label in config.labels:
        SubElement(choices, "Choice", value=label.name, hint=label.definition)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


def _document(
    data: dict[str, Any], results: list[dict[str, Any]], number: str, where: str, losses: Losses
) -> AnnotatedDocument:
    text, title = text_of(data, where), str(data.get("title") or "")
    spans: dict[str, list[Span]] = {"text": [], "title": []}
    cats: list[str] | None = None
    for result in results:
        value = result.get("value") or {}
        if result.get("type") == "choices":
            cats = [*(cats or []), *value["choices"]]
        elif result.get("type") == "labels" and result.get("to_name", "text") in spans:
            field = result.get("to_name", "text")
            points = _code_points(text if field == "text" else title, where)
            start, end = points[int(value["start"])], points[int(value["end"])]
            spans[field] += [Span(start, end, kind) for kind in value["labels"][:1]]
            losses.add("second label of a region", len(value["labels"]) - 1)
        else:
            losses.add(f"result of type {result.get('type')!r}")
    return AnnotatedDocument(
        id=str(data.get("id", number)),
        text=text,
        entities=tuple(sorted(spans["text"])),
        cats=None if cats is None else tuple(cats),
        title=title or None,
        title_entities=tuple(sorted(spans["title"])),
        published_at=data.get("published_at") or None,
        genre=data.get("genre") or "",
        source=data.get("source") or "",
    )


def _task(document: AnnotatedDocument) -> dict[str, Any]:
    return {"data": _data(document), "annotations": [{"result": _results(document)}]}


def _data(document: AnnotatedDocument) -> dict[str, Any]:
    return {
        "id": document.id,
        "title": document.title or "",
        "text": document.text,
        "published_at": document.published_at or "",
        "genre": document.genre,
        "source": document.source,
    }


def _results(document: AnnotatedDocument) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for field, spans, text in (
        ("text", document.entities, document.text),
        ("title", document.title_entities, document.title or ""),
    ):
        units = OffsetMap(text, "utf16")
        for span in spans:
            value = {
                "start": units(span.start),
                "end": units(span.end),
                "text": text[span.start : span.end],
                "labels": [span.type],
            }
            results.append(
                {
                    "id": f"{field}{len(results)}",
                    "from_name": _SPANS[field],
                    "to_name": field,
                    "type": "labels",
                    "value": value,
                }
            )
    if document.cats is not None:
        results.append(
            {
                "id": "cats",
                "from_name": "cats",
                "to_name": "text",
                "type": "choices",
                "value": {"choices": list(document.cats)},
            }
        )
    return results


def _code_points(text: str, where: str) -> dict[int, int]:
    """Code-point offset by UTF-16 offset; offsets inside a surrogate pair are missing."""
    units = OffsetMap(text, "utf16")
    return {units(offset): offset for offset in range(len(text) + 1)}
