"""The OpenAPI document: what FastAPI finds in the routes, and what holds for each of them without being said there."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from headrace_billing.problems import MEDIA_TYPE, STATUSES

DESCRIPTION = """
Amounts are decimal strings, times are RFC 3339 with an offset, pages go by an opaque `cursor`. Every POST that moves
money takes an `Idempotency-Key` and answers a repetition with its first answer, for good. Every refusal is a problem
document (RFC 9457) with a stable `code`.
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


def describe(app: FastAPI) -> None:
    """Makes `/openapi.json` say all of it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION.strip(), routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"bearer": BEARER}
    schemas = components.setdefault("schemas", {})
    for name in NOT_OURS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    for path, operation in _operations(document):
        operation["responses"].pop("422", None)
        if path in OPEN_TO_ALL:
            continue
        operation["responses"]["default"] = REFUSED
        operation["security"] = [] if path in SIGNED else [{"bearer": []}]
        for parameter in operation.get("parameters", ()):
            # Null only so that its absence gets a code of ours.
            if parameter["name"] == "idempotency-key":
                parameter["required"] = True
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation
