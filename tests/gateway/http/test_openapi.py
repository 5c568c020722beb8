"""The gateway does as its OpenAPI document says: whatever is sent is answered or refused, and never fails here."""

import asyncio
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES_A_MODE = 10


async def described(stack: Stack) -> dict[str, Any]:
    answer = await stack.http.get("/v1/openapi.json", headers={"authorization": ""})
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


async def test_every_path_is_described(stack: Stack) -> None:
    described_paths = {
        path: method.upper()
        for path, operations in (await described(stack))["paths"].items()
        for method in operations
        if "{" not in path
    }
    served = {path: method for path, (method, _) in stack.gateway._routes.items()}
    served.pop("/v1/openapi.json")
    assert described_paths == served


async def test_no_request_makes_the_gateway_fail(stack: Stack) -> None:
    document = await described(stack)
    await asyncio.to_thread(_ask_everything, document, stack.url, stack.account.secret)
    await stack.settled(len(stack.account.events()))


def _ask_everything(document: dict[str, Any], url: str, secret: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        _ask(operation, GenerationMode.POSITIVE, url, secret)
        if operation.body or operation.path_parameters:
            _ask(operation, GenerationMode.NEGATIVE, url, secret)


def _ask(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, url: str, secret: str) -> None:
    @settings(
        max_examples=EXAMPLES_A_MODE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
    def ask(case: Case[Any], exists: bool) -> None:
        if exists:
            for named in (case.path_parameters, case.body):
                if isinstance(named, dict) and "model" in named:
                    named["model"] = MODEL
        answer = case.call(base_url=url, headers={"authorization": f"Bearer {secret}"})
        case.validate_response(answer, checks=CHECKS)

    ask()
