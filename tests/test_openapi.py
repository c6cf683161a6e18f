"""Requests made from the OpenAPI document are answered as the document says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.app import create_app
from serving.settings import Settings
from tests.servers import Server

OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_dict(create_app(Settings()).openapi()).get_all_operations()
]


@pytest.fixture(scope="module")
def address(tiny_folder: Path) -> Iterator[str]:
    with Server(Settings(model=tiny_folder, threads=1)) as server:
        yield server.url


# A bad document is answered 200 with its own error, and a text of spaces is none: what the schema calls
# valid or invalid does not decide the status, so that is not checked.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_each_route_answers_as_documented(operation: APIOperation, address: str) -> None:
    @given(operation.as_strategy())
    @settings(
        max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck]
    )
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=address, checks=CHECKS, timeout=60)

    ask()
