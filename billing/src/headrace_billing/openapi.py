"""The OpenAPI document: what FastAPI finds in the routes, and what holds for each of them without being said there."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from headrace_billing.answers import answer_schemas
from headrace_billing.problems import MEDIA_TYPE, STATUSES

DESCRIPTION = """
Amounts are decimal strings, times are RFC 3339 with an offset, pages go by an opaque `cursor`. A query parameter that a
route doesn't have is refused. Every POST that moves money takes an `Idempotency-Key` and answers a repetition with its
first answer, for good. Every refusal is a problem document (RFC 9457) with a stable `code`.
"""

BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "The admin's token or a member's (`hrs-…`); an API key (`hr-…`) where a customer asks about what "
    "is its own; under `/internal` the ingest token, and under `/v1/usage-events` a meter's (`hm-…`).",
}

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(STATUSES)},
        "detail": {"type": "string", "description": "What is wrong and what can be done about it."},
    },
    "additionalProperties": True,
}
REFUSED = {
    "description": "Refused; nothing was done.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
OPEN_TO_ALL = ("/healthz", "/readyz")
SIGNED = ("/v1/stripe/webhook",)
"""Authenticated by the body's signature."""
NOT_OURS = ("HTTPValidationError", "ValidationError")
"""The framework's own shape of a refusal, which no route here answers with."""


def operation_id(route: APIRoute) -> str:
    """Generated clients name their functions after it."""
    return route.name.lstrip("_")


def describe(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Makes `/openapi.json` say all of it, also what the routers' `Answering` routes answer with."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, routers)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION.strip(), routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"bearer": BEARER}
    schemas = components.setdefault("schemas", {})
    for name in NOT_OURS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    answers, definitions = answer_schemas(routers)
    schemas |= definitions
    for path, method, operation in _operations(document):
        operation["responses"].pop("422", None)
        _tell_answers(operation["responses"], answers.get((path, method), []))
        if path in OPEN_TO_ALL:
            continue
        operation["responses"]["default"] = REFUSED
        operation["security"] = [] if path in SIGNED else [{"bearer": []}]
        for parameter in operation.get("parameters", ()):
            # Null only so that its absence gets a code of ours.
            if parameter["name"] == "idempotency-key":
                parameter["required"] = True
    return document


def _tell_answers(responses: dict[str, Any], schemas: Sequence[dict[str, Any]]) -> None:
    """The first schema is that of the first status that is a success, and so on; one alone is that of all."""
    statuses = sorted(status for status in responses if status.startswith("2"))
    if not schemas:
        return
    of_each = [schemas[0]] * len(statuses) if len(schemas) == 1 else schemas
    for status, schema in zip(statuses, of_each, strict=True):
        responses[status]["content"] = {"application/json": {"schema": schema}}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation
