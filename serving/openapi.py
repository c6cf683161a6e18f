"""The OpenAPI document: what FastAPI cannot know, because items are checked by hand."""

from typing import Any

from fastapi import FastAPI

from serving import api

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

REQUEST_BODY = {
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


def complete(app: FastAPI) -> None:
    """Add the schemas of the request and of problems to the app's OpenAPI document."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for shape in (api.AnalyzeRequest, api.DocumentIn, api.ProblemOut):
            made = shape.model_json_schema(ref_template=_REF)
            schemas.update(made.pop("$defs", {}))
            schemas[shape.__name__] = made
        items = {"$ref": _REF.format(model="DocumentIn")}
        schemas["AnalyzeRequest"]["properties"]["documents"]["items"] = items
        return document

    app.openapi = openapi  # type: ignore[method-assign]
