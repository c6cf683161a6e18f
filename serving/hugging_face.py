"""Hugging Face's inference API: token and text classification for clients that know no other.

The shapes are those of the specification in `@huggingface/tasks`, as `huggingface_hub.InferenceClient`
and Inference Endpoints speak them. Offsets count code points.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from serving import api, conventions, openapi
from serving.answers import Asked, service_of
from serving.conventions import TextOrTexts, only_empty
from serving.loaded import Loaded
from serving.results import Analysis, Options
from serving.settings import Settings


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _whole_spans(given: str | None) -> str | None:
    if given == "none":
        raise ValueError(
            "'none' asks for single tokens, and spans are decoded as a whole; expected 'simple', "
            "'first', 'average' or 'max', which all give them"
        )
    return given


def _independent(given: str | None) -> str | None:
    if given in ("softmax", "none"):
        raise ValueError(
            f"{given!r} cannot be honoured: labels do not exclude one another, and each score is a "
            "calibrated probability; expected 'sigmoid'"
        )
    return given


class HfOptions(_Strict):
    """Accepted for old clients: both hold, whatever they say."""

    wait_for_model: bool = Field(True, description="The model is always loaded.")
    use_cache: bool = Field(True, description="An answer from the cache is the answer without it.")


class HfTokenParameters(_Strict):
    """Parameters of token classification."""

    aggregation_strategy: Annotated[
        Literal["none", "simple", "first", "average", "max"] | None, AfterValidator(_whole_spans)
    ] = Field(None, description="All but 'none' (422) give whole spans: there are no tokens left to fuse.")
    ignore_labels: list[str] | None = Field(None, description="Types to leave out.")
    stride: Annotated[
        int | None, only_empty("the windows are the model's, and a text of any length is read whole")
    ] = Field(None, description="Not honoured (422): the model's windows are its own.")


class HfTokenRequest(_Strict):
    """Texts whose spans are wanted."""

    inputs: TextOrTexts = Field(description="A text, or a list of them.")
    parameters: HfTokenParameters | None = None
    options: HfOptions | None = None


class HfTextParameters(_Strict):
    """Parameters of text classification."""

    top_k: int | None = Field(None, ge=1, description="So many labels, the best; all if not given.")
    function_to_apply: Annotated[
        Literal["sigmoid", "softmax", "none"] | None, AfterValidator(_independent)
    ] = Field(None, description="'sigmoid', since labels are independent; others are refused (422).")


class HfTextRequest(_Strict):
    """Texts whose labels are wanted."""

    inputs: TextOrTexts = Field(description="A text, or a list of them.")
    parameters: HfTextParameters | None = None
    options: HfOptions | None = None


class HfSpan(BaseModel):
    """A span; `word` is the slice of the text from `start` to `end`, in code points."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class HfLabel(BaseModel):
    """A document label and its calibrated probability."""

    label: str
    score: float


SHAPES = (HfTokenRequest, HfTextRequest)

_TEXT = "OFAC designated two tankers on Monday."
_SPANS = [
    {"entity_group": "ORG", "score": 0.99, "word": "OFAC", "start": 0, "end": 4},
    {"entity_group": "QUANTITY", "score": 0.98, "word": "two", "start": 16, "end": 19},
    {"entity_group": "DATE", "score": 0.99, "word": "Monday", "start": 31, "end": 37},
]
_LABELS = [{"label": "designation", "score": 0.98}, {"label": "maritime_evasion", "score": 0.61}]


def add_routes(app: FastAPI) -> None:
    """`/hf/token-classification` and `/hf/text-classification`."""

    @app.post(
        "/hf/token-classification",
        response_model=list[HfSpan] | list[list[HfSpan]],
        responses=openapi.responses(one_text=_SPANS, a_list=[_SPANS]),
        openapi_extra={
            "requestBody": openapi.json_body(
                HfTokenRequest,
                one_text={"inputs": _TEXT, "parameters": {"aggregation_strategy": "simple"}},
                a_list={"inputs": [_TEXT], "parameters": {"ignore_labels": ["MONEY"]}},
            )
        },
    )
    async def token_classification(request: Request) -> Response:
        """Spans in Hugging Face's shape: a list of them for a text, a list a text for a list."""
        return await service_of(request).answer_json(request, _spans_asked)

    @app.post(
        "/hf/text-classification",
        response_model=list[list[HfLabel]],
        responses=openapi.responses(one_text=[_LABELS]),
        openapi_extra={
            "requestBody": openapi.json_body(
                HfTextRequest,
                one_text={"inputs": _TEXT, "parameters": {"top_k": 2}},
                a_list={"inputs": [_TEXT]},
            )
        },
    )
    async def text_classification(request: Request) -> Response:
        """Every label with its score, best first, a list a text; the thresholds are in `/v1/model`."""
        return await service_of(request).answer_json(request, _labels_asked)


def _spans_asked(content: bytes, loaded: Loaded, settings: Settings) -> Asked:
    given = api.parse(HfTokenRequest, content)
    ignored = frozenset((given.parameters and given.parameters.ignore_labels) or ())

    def rows(loaded: Loaded, analysis: Analysis) -> Sequence[Any]:
        return [
            {"entity_group": e.type, "score": e.score, "word": e.text, "start": e.start, "end": e.end}
            for e in analysis.entities or ()
            if e.type not in ignored
        ]

    items = conventions.documents(given.inputs, settings.max_documents)
    single = isinstance(given.inputs, str)
    return conventions.asked(items, Options(labels=False), rows, name="inputs", single=single)


def _labels_asked(content: bytes, loaded: Loaded, settings: Settings) -> Asked:
    given = api.parse(HfTextRequest, content)
    top_k = given.parameters.top_k if given.parameters else None

    def rows(loaded: Loaded, analysis: Analysis) -> Sequence[Any]:
        return [{"label": label.label, "score": label.score} for label in (analysis.labels or ())[:top_k]]

    items = conventions.documents(given.inputs, settings.max_documents)
    # A list of lists also for one text: this is how the specification's clients read it.
    options = Options(entities=False, all_labels=True)
    return conventions.asked(items, options, rows, name="inputs", single=False)
