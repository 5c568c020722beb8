"""Every operation of an OpenAPI document, asked with what the document allows and with what it does not."""

from collections.abc import Callable
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

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES_A_MODE = 10
"""Of each operation; with fifteen times as many it passed as well."""

Headers = Callable[[str], dict[str, str]]


def ask_everything(document: dict[str, Any], url: str, known: dict[str, str], headers: Headers) -> None:
    """Fails where an answer is none that the document tells of, or the server fails.

    `known`: things there are, by the names that paths, queries and bodies give them: half of the requests name these.
    `headers`: of a request to an operation's path.
    """
    asked = set()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        asked.add(operation.label)
        _ask(operation, GenerationMode.POSITIVE, url, known, headers)
        if operation.body or operation.query or operation.path_parameters:
            _ask(operation, GenerationMode.NEGATIVE, url, known, headers)
    assert len(asked) == sum(len(operations) for operations in document["paths"].values())


def _ask(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    url: str,
    known: dict[str, str],
    headers: Headers,
) -> None:
    @settings(
        max_examples=EXAMPLES_A_MODE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
    def ask(case: Case[Any], exists: bool) -> None:
        if exists:
            for named in (case.path_parameters, case.query, case.body):
                if isinstance(named, dict):
                    named |= {name: known[name] for name in named if name in known}
        answer = case.call(base_url=url, headers=headers(operation.path))
        case.validate_response(answer, checks=CHECKS)

    ask()
