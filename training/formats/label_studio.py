"""Label Studio's JSON of tasks: regions counted in UTF-16 units, as its browser counts.

<View>
  <Text name="title" value="$title"/> <Text name="text" value="$text"/>
  <Labels name="label" toName="text">…</Labels> <Labels name="title_label" toName="title">…</Labels>
  <Choices name="cats" toName="text" choice="multiple">…</Choices>
</View>
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from serving.errors import CorpusError
from serving.offsets import OffsetMap
from training.corpus import AnnotatedDocument, Span
from training.formats.jsonl import text_of
from training.formats.losses import Losses

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
    data = {
        "id": document.id,
        "title": document.title or "",
        "text": document.text,
        "published_at": document.published_at or "",
        "genre": document.genre,
        "source": document.source,
    }
    return {"data": data, "annotations": [{"result": results}]}


def _code_points(text: str, where: str) -> dict[int, int]:
    """Code-point offset by UTF-16 offset; offsets inside a surrogate pair are missing."""
    units = OffsetMap(text, "utf16")
    return {units(offset): offset for offset in range(len(text) + 1)}
