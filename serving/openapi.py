"""The OpenAPI document: what FastAPI cannot know, because items are checked by hand."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from serving.middleware import OPEN_PATHS

_REF = "#/components/schemas/{model}"

_EXAMPLES: dict[int, tuple[str, str]] = {
    400: ("Broken JSON", "The body is not valid JSON: unexpected end of data."),
    401: ("No valid key", "Expected a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."),
    408: ("Body too slow", "The body did not arrive within 30 s; send it again."),
    413: ("Too many documents", "The request holds 2000 documents, at most 1024 are taken; …"),
    415: (
        "Unsupported media type",
        "Got Content-Type 'text/plain'; expected application/json or application/x-ndjson.",
    ),
    422: ("Invalid request", "options.offset_unit: Input should be 'codepoint', 'utf16' or 'utf8'"),
    429: (
        "Too busy",
        "About 210000 tokens wait to be read, at most 200000 may; there should be room in 3 s.",
    ),
    500: ("Internal error", "The request could not be answered; the server's log says why."),
    503: ("Too slow", "No answer within 300 s; send fewer or shorter documents a request."),
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": title,
        "content": {
            "application/problem+json": {
                "schema": {"$ref": _REF.format(model="ProblemOut")},
                "example": {"type": "about:blank", "title": title, "status": status, "detail": detail},
            }
        },
    }
    for status, (title, detail) in _EXAMPLES.items()
}

ANALYZE_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": _REF.format(model="AnalyzeRequest")},
            "example": {
                "documents": [{"id": "a1", "text": "OFAC designated two tankers on Monday."}],
                "options": {"evidence": True},
            },
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "A document a line; a result a line comes back."},
            "example": '{"id": "a1", "text": "OFAC designated two tankers on Monday."}\n',
        },
    },
}


def json_body(shape: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """The `requestBody` of a route that takes this shape, with named examples."""
    schema = {"$ref": _REF.format(model=shape.__name__)}
    named = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": named}}}


def responses(**examples: Any) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: named examples of the good one, and every problem."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {200: {"content": {"application/json": {"examples": named}}}, **RESPONSES}


def complete(app: FastAPI, shapes: Iterable[type[BaseModel]], *, asks_for_keys: bool) -> None:
    """Add to the OpenAPI document the schemas of requests that are checked by hand, of problems, and how
    a key is given where one is asked for."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        if asks_for_keys:
            _add_keys(document)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for shape in shapes:
            made = shape.model_json_schema(ref_template=_REF)
            schemas.update(made.pop("$defs", {}))
            schemas[shape.__name__] = made
        items = {"$ref": _REF.format(model="DocumentIn")}
        schemas["AnalyzeRequest"]["properties"]["documents"]["items"] = items
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_keys(document: dict[str, Any]) -> None:
    """Either header will do, for all but the paths that load balancers ask."""
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
    }
    document["security"] = [{"bearer": []}, {"header": []}]
    for path in OPEN_PATHS & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []
