"""Presidio Analyzer's REST API: spans under Presidio's names where it has one, offsets in code points."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from serving import api, conventions, openapi
from serving.answers import Asked, service_of
from serving.conventions import TextOrTexts, only_empty
from serving.errors import RequestError
from serving.loaded import Loaded
from serving.logs import log
from serving.results import Analysis, Entity, Options
from serving.settings import Settings

_NAMES = {"ORG": "ORGANIZATION", "NORP": "NRP", "DATE": "DATE_TIME"}
"""Types that Presidio calls otherwise; all others keep their names."""
_LANGUAGE = "en"
"""What the model reads; Presidio's requests must name a language."""
_NO_PATTERNS = "the model alone decides what is a span; filter the answer instead"


class PresidioRequest(BaseModel):
    """Texts whose spans are wanted."""

    model_config = ConfigDict(extra="forbid")

    text: TextOrTexts = Field(description="A text, or a list of them.")
    language: str = Field(description="'en'.")
    entities: list[str] | None = Field(
        None, description="Types to return, under Presidio's names or the model's; all if not given."
    )
    score_threshold: float | None = Field(None, ge=0, le=1, description="The least score returned.")
    correlation_id: str | None = Field(
        None, pattern=r"^[\x21-\x7e]{1,128}$", description="Logged, and returned as X-Correlation-ID."
    )
    return_decision_process: bool | None = Field(None, description="Explain each span.")
    allow_list: list[str] | None = Field(None, description="Texts that are no findings.")
    allow_list_match: Literal["exact"] | None = Field(None, description="How `allow_list` is compared.")
    regex_flags: Annotated[int | None, only_empty("patterns are not taken")] = Field(
        None, description="Not honoured (422): patterns are not taken."
    )
    ad_hoc_recognizers: Annotated[list[Any] | None, only_empty(_NO_PATTERNS)] = Field(
        None, description="Not honoured (422 unless empty)."
    )
    context: Annotated[list[str] | None, only_empty("words nearby are part of what the model reads")] = Field(
        None, description="Not honoured (422 unless empty)."
    )
    trace: Annotated[Any, only_empty("leave it out; requests are logged with their ids")] = Field(
        None, description="Not honoured (422 unless false)."
    )


class PresidioExplanation(BaseModel):
    """Why a span was returned: the model says so."""

    recognizer: str
    original_score: float
    score: float
    textual_explanation: str
    score_context_improvement: float = 0
    supportive_context_word: str = ""
    pattern_name: None = None
    pattern: None = None
    validation_result: None = None


class PresidioSpan(BaseModel):
    """A span, `start` and `end` in code points."""

    entity_type: str
    start: int
    end: int
    score: float
    analysis_explanation: PresidioExplanation | None = None


SHAPES = (PresidioRequest,)

_TEXT = "OFAC designated two tankers on Monday."
_SPANS = [
    {"entity_type": "ORGANIZATION", "start": 0, "end": 4, "score": 0.99, "analysis_explanation": None},
    {"entity_type": "DATE_TIME", "start": 31, "end": 37, "score": 0.98, "analysis_explanation": None},
]


def add_routes(app: FastAPI) -> None:
    """`/presidio/analyze`, `supportedentities`, `recognizers` and `health`."""

    @app.post(
        "/presidio/analyze",
        response_model=list[PresidioSpan] | list[list[PresidioSpan]],
        responses=openapi.responses(one_text=_SPANS, a_list=[_SPANS]),
        openapi_extra={
            "requestBody": openapi.json_body(
                PresidioRequest,
                one_text={"text": _TEXT, "language": "en", "entities": ["ORGANIZATION", "DATE_TIME"]},
                a_list={"text": [_TEXT], "language": "en", "score_threshold": 0.5},
            )
        },
    )
    async def analyze(request: Request) -> Response:
        """Spans in Presidio's shape: a list of them for a text, a list a text for a list."""
        return await service_of(request).answer_json(request, _asked)

    @app.get("/presidio/supportedentities", responses=openapi.responses(all=["PERSON", "ORGANIZATION"]))
    async def supported_entities(request: Request, language: str = _LANGUAGE) -> list[str]:
        """Types of span, under Presidio's names."""
        _check_language(language)
        return [_name(type_) for type_ in _types(service_of(request).model.current)]

    @app.get("/presidio/recognizers", responses=openapi.responses(all=["embargo-base-v3"]))
    async def recognizers(request: Request, language: str = _LANGUAGE) -> list[str]:
        """What finds spans: the model."""
        _check_language(language)
        return [_recognizer(service_of(request).model.current)]

    @app.get("/presidio/health", response_class=PlainTextResponse)
    async def health() -> str:
        """The process is alive."""
        return "Embargo is up and answers as Presidio Analyzer"


def _asked(content: bytes, loaded: Loaded, settings: Settings) -> Asked:
    given = api.parse(PresidioRequest, content)
    _check_language(given.language)
    rows = partial(
        _rows,
        wanted=_wanted(given.entities, _types(loaded)),
        allowed=frozenset(given.allow_list or ()),
        explained=bool(given.return_decision_process),
    )
    headers = {}
    if given.correlation_id:
        log.info("correlated", extra={"correlation_id": given.correlation_id})
        headers["x-correlation-id"] = given.correlation_id
    items = conventions.documents(given.text, settings.max_documents)
    options = Options(labels=False, min_score=given.score_threshold)
    return conventions.asked(items, options, rows, name="text", single=isinstance(given.text, str), **headers)


def _rows(
    loaded: Loaded, analysis: Analysis, *, wanted: frozenset[str], allowed: frozenset[str], explained: bool
) -> Sequence[Any]:
    return [
        {
            "entity_type": _name(entity.type),
            "start": entity.start,
            "end": entity.end,
            "score": entity.score,
            "analysis_explanation": _explanation(loaded, entity) if explained else None,
        }
        for entity in analysis.entities or ()
        if entity.type in wanted and entity.text not in allowed
    ]


def _explanation(loaded: Loaded, entity: Entity) -> dict[str, Any]:
    recognizer = _recognizer(loaded)
    return PresidioExplanation(
        recognizer=recognizer,
        original_score=entity.score,
        score=entity.score,
        textual_explanation=f"Read as {entity.type} by {recognizer}; the score is a calibrated probability.",
    ).model_dump()


def _wanted(entities: Sequence[str] | None, types: Sequence[str]) -> frozenset[str]:
    """The model's types that are asked for. Raises RequestError 422 for one that is not known.

    Presidio passes over an unknown type while it knows another; whoever screens texts would then
    take "not looked for" for "not there".
    """
    if not entities:
        return frozenset(types)
    known = {**{_name(type_): type_ for type_ in types}, **{type_: type_ for type_ in types}}
    if unknown := [entity for entity in entities if entity not in known]:
        raise RequestError(
            422,
            "Invalid request",
            f"entities: the model has no {', '.join(unknown)}; leave it out. Known: {', '.join(known)}.",
        )
    return frozenset(known[entity] for entity in entities)


def _check_language(language: str) -> None:
    if language != _LANGUAGE:
        raise RequestError(
            422, "Invalid request", f"language: got {language!r}; the model reads {_LANGUAGE!r} alone."
        )


def _types(loaded: Loaded) -> tuple[str, ...]:
    return tuple(loaded.analyzer.config.type_names())


def _name(type_: str) -> str:
    return _NAMES.get(type_, type_)


def _recognizer(loaded: Loaded) -> str:
    return f"{loaded.folder.config.name}-v{loaded.folder.config.version}"
