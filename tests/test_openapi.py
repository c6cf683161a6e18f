"""Requests made from the OpenAPI document are answered as the document says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.settings import Settings
from tests.servers import Server


@pytest.fixture(scope="module")
def described(tiny_folder: Path) -> Iterator[schemathesis.BaseSchema]:
    with Server(Settings(model=tiny_folder, threads=1)) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("described")

# A bad document is answered 200 with its own error, and a text of spaces is none: what the schema calls
# valid or invalid does not decide the status, so that is not checked.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schema.parametrize()
@settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_each_route_answers_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS, timeout=60)
