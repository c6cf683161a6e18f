"""Every error that Embargo raises on purpose.

EmbargoError
├── ModelFolderError      a model folder is missing, incomplete or altered
├── DocumentError         one document cannot be read; the others can
├── RequestError          a request that cannot be answered as a whole
├── AbandonedError        a call that its caller gave up
├── ServiceError          a service that was called gave no good answer (serving/client.py)
│   ├── UnreachableError  it could not be reached, or broke off
│   └── ProblemError      it answered with a problem
│       └── BusyError     429 or 503, also after the retries; not for a request that is too slow
├── CorpusError           a labelled corpus breaks the format or the label rules
├── ScoreError            a corpus run cannot begin, go on or be finished
└── TrainingError         a training run, an export or an evaluation cannot go on

A message says what was got, what was expected, and the fix.
"""

from collections.abc import Mapping
from typing import Literal

TOO_SLOW = "Too slow"
"""Title of the 503 that another try would meet too: the request is too large for its time."""

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


class ServiceError(EmbargoError):
    """A service that was called gave no good answer."""


class UnreachableError(ServiceError):
    """The service could not be reached, was too slow, or broke off; `__cause__` is httpx's error."""


class ProblemError(ServiceError):
    """The service answered with a problem. `request_id` finds the call in the service's log."""

    def __init__(self, status: int, title: str, detail: str, request_id: str | None = None) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.request_id = request_id


class BusyError(ProblemError):
    """Too many tokens wait (429) or it is not ready (503); `retry_after` seconds, where it told."""

    retry_after: float | None = None


class CorpusError(EmbargoError):
    """A labelled corpus breaks the format or the label rules."""


class ScoreError(EmbargoError):
    """A corpus run cannot begin, go on or be finished."""


class TrainingError(EmbargoError):
    """A training run, an export or an evaluation cannot go on."""
