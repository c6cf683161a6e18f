"""The far end of a WorkerProcess: JSON lines in, JSON lines out, each request a method of one object."""

import os
import sys
import traceback
from typing import Any

import orjson


def answer(worker: object, request: dict[str, Any]) -> dict[str, Any]:
    """One request, `{"do": METHOD, …}`; an error is an answer too."""
    do = request.pop("do")
    try:
        answered: dict[str, Any] = getattr(worker, do)(**request)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{do}: {type(error).__name__}: {error}"}
    return answered


def serve(worker: object) -> None:
    """Answer until stdin ends. Whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answers.write(orjson.dumps(answer(worker, orjson.loads(line))) + b"\n")
        answers.flush()
