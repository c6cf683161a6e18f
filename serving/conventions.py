"""What the APIs of others share: a text or a list of texts in, rows for each of them out.

Their shapes have no place for the error of one text: it is the request's, and names the text. A
parameter that cannot be honoured is refused and never silently ignored.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, PlainValidator

from serving import api
from serving.answers import Asked
from serving.errors import RequestError
from serving.loaded import Loaded
from serving.results import Analysis, Document, Options

T = TypeVar("T")
Rows = Callable[[Loaded, Analysis], Sequence[Any]]
"""What one text's result becomes; anything that orjson can write."""


def _text_or_texts(given: Any) -> str | list[str]:
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise ValueError(f"got JSON type {api.json_type(given)}; expected a string or a list of strings")
    for number, item in enumerate(given):
        if not isinstance(item, str):
            raise ValueError(f"item {number} is of JSON type {api.json_type(item)}; expected a string")
    return given


# Not a plain union: its errors would name each branch, and lone surrogates are the engine's matter.
TextOrTexts = Annotated[
    str | list[str], PlainValidator(_text_or_texts, json_schema_input_type=str | list[str])
]


def only_empty(why: str) -> AfterValidator:
    """For a parameter that cannot be honoured: it may be there, with nothing in it."""

    def check(given: T) -> T:
        if given:
            raise ValueError(f"this cannot be honoured: {why}")
        return given

    return AfterValidator(check)


def documents(texts: str | list[str], max_documents: int) -> list[Document]:
    """Texts as documents. Raises RequestError 413 if there are too many."""
    listed = [texts] if isinstance(texts, str) else texts
    api.check_count(len(listed), max_documents)
    return [Document(text=text, id=number) for number, text in enumerate(listed)]


def asked(
    items: Sequence[Document], options: Options, rows: Rows, *, name: str, single: bool, **headers: str
) -> Asked:
    """What is to be done: the rows of the only text if it is `single`, else a list of rows a text.

    `name` is that of the texts' field, for errors.
    """
    return Asked(items, options, partial(_write, rows, name, single), headers)


def _write(rows: Rows, name: str, single: bool, loaded: Loaded, analyses: Sequence[Analysis]) -> bytes:
    for number, analysis in enumerate(analyses):
        if analysis.error:
            where = name if single else f"{name}.{number}"
            code, message = analysis.error.code, analysis.error.message
            raise RequestError(422, "Text not read", f"{where}: {code}: {message}")
    written = [rows(loaded, analysis) for analysis in analyses]
    return orjson.dumps(written[0] if single else written)
