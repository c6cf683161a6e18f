"""Every error that Embargo raises on purpose.

EmbargoError
├── ModelFolderError      a model folder is missing, incomplete or altered
├── DocumentError         one document cannot be read; the others can
├── RequestError          a request that cannot be answered as a whole
├── AbandonedError        a call that its caller gave up
├── CorpusError           a labelled corpus breaks the format or the label rules
├── ScoreError            a corpus run cannot begin, go on or be finished
└── TrainingError         a training run, an export or an evaluation cannot go on

A message says what was got, what was expected, and the fix.
"""

from collections.abc import Mapping
from typing import Literal

DocumentErrorCode = Literal["empty", "not_text", "lone_surrogate", "too_long", "invalid_document"]


class EmbargoError(Exception):
    """Base of all errors raised on purpose."""


class ModelFolderError(EmbargoError):
    """A model folder is missing, incomplete, or differs from its manifest."""


class DocumentError(EmbargoError):
    """One document cannot be read. `code` is stable and meant for machines."""

    def __init__(self, code: DocumentErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RequestError(EmbargoError):
    """A request that cannot be answered as a whole; `status` is its HTTP status."""

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})


class AbandonedError(EmbargoError):
    """A call was given up before it was answered."""

    def __init__(self) -> None:
        super().__init__("the call was given up by its caller")


class CorpusError(EmbargoError):
    """A labelled corpus breaks the format or the label rules."""


class ScoreError(EmbargoError):
    """A corpus run cannot begin, go on or be finished."""


class TrainingError(EmbargoError):
    """A training run, an export or an evaluation cannot go on."""
