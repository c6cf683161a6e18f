"""The shapes of `POST /v1/analyze`: what comes in, checked; what goes out, serialised."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import DocumentError, RequestError
from serving.model_folder import ModelFolder
from serving.results import Analysis, Document, Label, Options, Problem

Shape = TypeVar("Shape", bound=BaseModel)


class DocumentIn(BaseModel):
    """One text to read."""

    id: str | int | None = Field(None, description="Echoed; the item's index if missing.")
    text: str = Field(description="The document; offsets in the result address this string.")
    title: str | None = Field(None, description="A headline; spans in it have offsets of its own.")
    published_at: str | None = Field(None, description="Date of publication, not read by the model.")


class OptionsIn(BaseModel):
    """What to return."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    labels: bool = Field(True, description="Return document labels.")
    entities: bool = Field(True, description="Return entity spans.")
    evidence: bool = Field(False, description="With each label, the sentences that speak for it.")
    min_score: float | None = Field(
        None, ge=0, le=1, description="In place of the model's thresholds, labels and entities alike."
    )
    offset_unit: Literal["codepoint", "utf16", "utf8"] = Field(
        "codepoint", description="What start and end count."
    )


class AnalyzeRequest(BaseModel):
    """A batch of documents. A bad item is answered with its error, the others are read."""

    model_config = ConfigDict(extra="forbid")

    # Items are checked one by one, so that a bad one does not cost the others.
    documents: list[Any] = Field(examples=[[{"id": "a1", "text": "OFAC designated two tankers on Monday."}]])
    options: OptionsIn = OptionsIn()


class EvidenceOut(BaseModel):
    """A sentence that speaks for a label; `score` is its share of the evidence."""

    start: int
    end: int
    score: float
    field: Literal["title", "text"]


class LabelOut(BaseModel):
    """A document label and the probability that it holds."""

    label: str
    axis: str
    score: float
    evidence: list[EvidenceOut] | None = Field(None, description="Only with `evidence: true`.")


class EntityOut(BaseModel):
    """A span; `text` is exactly the slice of its field from `start` to `end`."""

    type: str
    start: int
    end: int
    text: str
    score: float
    field: Literal["title", "text"]


class CoverageOut(BaseModel):
    """How much of the document was read."""

    tokens: int
    windows: int
    truncated: bool


class ErrorOut(BaseModel):
    """Why one document was not read."""

    code: str
    message: str


class ResultOut(BaseModel):
    """The result for one document, in the order of the request."""

    id: str | int
    labels: list[LabelOut] | None
    entities: list[EntityOut] | None
    coverage: CoverageOut | None
    error: ErrorOut | None


class ModelOut(BaseModel):
    """Which model answered; `sha256` is that of its manifest."""

    name: str
    version: str
    sha256: str


class TypeOut(BaseModel):
    """A type of span."""

    name: str
    definition: str


class LabelCardOut(BaseModel):
    """A document label; it holds where its score is at least `threshold`."""

    name: str
    axis: str
    threshold: float
    definition: str


class ModelCardOut(ModelOut):
    """What the model knows, and the limits on what is asked of it."""

    types: list[TypeOut]
    labels: list[LabelCardOut]
    limits: dict[str, float]


class ProblemOut(BaseModel):
    """An error of a whole request (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class AnalyzeResponse(BaseModel):
    """One result a document."""

    model: ModelOut
    results: list[ResultOut]


class LineOut(ResultOut):
    """A line of a stream: a result, and the model that gave it."""

    model: ModelOut


SHAPES = (AnalyzeRequest, DocumentIn, ProblemOut)
"""What FastAPI cannot see, because it is checked by hand."""


def parse_request(body: bytes, max_documents: int) -> AnalyzeRequest:
    """Check the envelope. Raises RequestError as `parse` and `check_count`."""
    request = parse(AnalyzeRequest, body)
    check_count(len(request.documents), max_documents)
    return request


def parse(shape: type[Shape], body: bytes) -> Shape:
    """A body in this shape. Raises RequestError: 400 for broken JSON, 422 for another shape."""
    try:
        return shape.model_validate(parse_json(body))
    except ValidationError as error:
        raise _invalid(error) from error


def check_count(documents: int, max_documents: int) -> None:
    """Raises RequestError 413 if a request holds too many documents."""
    if documents > max_documents:
        raise RequestError(
            413,
            "Too many documents",
            f"The request holds {documents} documents, at most {max_documents} are taken; "
            "send them in several requests.",
        )


def _invalid(error: ValidationError) -> RequestError:
    details = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()[:5])
    return RequestError(422, "Invalid request", details)


def parse_json(body: bytes) -> Any:
    """JSON, lone surrogates let through. Raises RequestError (400) where it is broken."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            # orjson refuses a lone surrogate outright; here it is the error of one item.
            return json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise RequestError(400, "Broken JSON", f"The body is not valid JSON: {error}.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def parse_line(line: bytes | None, number: int, limit: int) -> Document | tuple[str | int, DocumentError]:
    """One line of NDJSON, or an id and what is wrong with it. `line` is None if it was over `limit`."""
    if line is None:
        return str(number), DocumentError(
            "too_long",
            f"The line has more than {limit} bytes; split the document and send its parts.",
        )
    try:
        item = parse_json(line)
    except RequestError as error:
        return str(number), DocumentError("invalid_document", error.detail.replace("body", "line"))
    return parse_document(item, number)


def options_of_query(query: Mapping[str, str]) -> OptionsIn:
    """Options as query parameters. Raises RequestError 422."""
    try:
        # Strings of the query are read as the JSON that they would be in a body.
        return OptionsIn.model_validate_strings(dict(query), strict=False)
    except ValidationError as error:
        raise _invalid(error) from error


def parse_document(item: Any, index: int) -> Document | tuple[str | int, DocumentError]:
    """One item of a request, or its id and what is wrong with it."""
    if not isinstance(item, dict):
        return str(index), DocumentError(
            "invalid_document",
            f'The item is of JSON type {json_type(item)}; expected an object {{"id", "text"}}.',
        )
    given = item.get("id")
    id_ = str(index) if given is None else given
    if not _can_be_echoed(id_):
        return str(index), DocumentError(
            "invalid_document",
            f"The id is of JSON type {json_type(given)} or cannot be written; expected valid Unicode "
            "or an integer of 64 bits.",
        )
    for key, required in (("text", True), ("title", False), ("published_at", False)):
        value = item.get(key)
        if not (isinstance(value, str) or (value is None and not required)):
            return id_, DocumentError(
                "not_text" if key == "text" else "invalid_document",
                f"The {key} is of JSON type {json_type(value)}; expected a string.",
            )
    return Document(text=item["text"], title=item.get("title"), id=id_)


def _can_be_echoed(id_: Any) -> bool:
    if isinstance(id_, str):
        return not any("\ud800" <= character <= "\udfff" for character in id_)
    return isinstance(id_, int) and not isinstance(id_, bool) and -(2**63) <= id_ < 2**64


def json_type(value: Any) -> str:
    """What JSON calls such a value."""
    names = {type(None): "null", bool: "boolean", dict: "object", list: "array", str: "string"}
    return names.get(type(value), "number")


def options(given: OptionsIn) -> Options:
    """The engine's options."""
    return Options(**given.model_dump())


def problem(id_: str | int, error: DocumentError) -> Analysis:
    """The result of an item that could not be read."""
    return Analysis(id=id_, error=Problem(error.code, error.message))


def model_identity(folder: ModelFolder) -> dict[str, str]:
    """Name, version and hash, as each response carries them."""
    return {"name": folder.config.name, "version": folder.config.version, "sha256": folder.sha256}


def result_json(analysis: Analysis) -> dict[str, Any]:
    """A result in the contract's form; dataclasses inside are serialised by orjson."""
    labels = analysis.labels
    return {
        "id": analysis.id,
        "labels": None if labels is None else [_label_json(label) for label in labels],
        "entities": analysis.entities,
        "coverage": analysis.coverage,
        "error": analysis.error,
    }


def _label_json(label: Label) -> dict[str, Any]:
    row: dict[str, Any] = {"label": label.label, "axis": label.axis, "score": label.score}
    if label.evidence is not None:
        row["evidence"] = label.evidence
    return row


def response_body(folder: ModelFolder, analyses: Sequence[Analysis]) -> bytes:
    """The body of a response."""
    return orjson.dumps({"model": model_identity(folder), "results": [result_json(a) for a in analyses]})


def result_lines(folder: ModelFolder, analyses: Sequence[Analysis]) -> bytes:
    """Results as NDJSON; each line says which model answered."""
    model = model_identity(folder)
    return b"".join(orjson.dumps({"model": model, **result_json(a)}) + b"\n" for a in analyses)
