"""Every answer that a test gets, held to what the OpenAPI document says of it, and to no more than that."""

import re
from copy import deepcopy
from functools import cache
from typing import Any

from fastapi import FastAPI
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from headrace_billing.app import ROUTERS
from headrace_billing.openapi import describe, operation_id

Schema = dict[str, Any]


def check_answer(method: str, path: str, status: int, answer: object) -> None:
    """Fails where it lacks a member, has one that is not told of, or one of another type."""
    validator = _validator(method.lower(), path.partition("?")[0], status)
    if validator is not None:
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer)]
        assert not found, f"{method} {path} answers otherwise than it is documented: {found}"


@cache
def document() -> Schema:
    app = FastAPI(title="billing", version="1", generate_unique_id_function=operation_id)
    for router in ROUTERS:
        app.include_router(router)
    describe(app, ROUTERS)
    return closed(app.openapi())


def closed(document: Schema) -> Schema:
    """The same document, in which objects have the members that it names and no others."""
    document = deepcopy(document)
    _close(document["paths"])
    _close(document["components"]["schemas"])
    document["components"]["schemas"]["Problem"]["additionalProperties"] = True
    return document


def _close(schema: object) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for member in schema.values():
            _close(member)
    elif isinstance(schema, list):
        for member in schema:
            _close(member)


def _validator(method: str, path: str, status: int) -> Draft202012Validator | None:
    """Null where the document tells nothing of a JSON answer."""
    template = _template(method, path)
    return None if template is None else _validator_of(method, template, status)


@cache
def _validator_of(method: str, template: str, status: int) -> Draft202012Validator | None:
    responses = document()["paths"][template][method]["responses"]
    assert str(status) in responses, f"{method} {template} is not told to answer {status}"
    schema = responses[str(status)].get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return None
    return Draft202012Validator({**schema, "components": document()["components"]})


def _template(method: str, path: str) -> str | None:
    """The one with the fewest placeholders of those that fit."""
    fitting = [one for one, pattern in _patterns(method) if pattern.fullmatch(path)]
    return min(fitting, key=lambda one: one.count("{"), default=None)


@cache
def _patterns(method: str) -> list[tuple[str, re.Pattern[str]]]:
    return [
        (path, re.compile(re.sub(r"\\{[a-z_]+\\}", "[^/]+", re.escape(path))))
        for path, operations in document()["paths"].items()
        if method in operations
    ]
