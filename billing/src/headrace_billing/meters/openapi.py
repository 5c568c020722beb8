"""What the OpenAPI document says of reporting usage: made from the very types that read it."""

from typing import Any

import msgspec

from headrace_billing.meters.reading import CloudEvent, ItemCode, Used


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Without references, whose targets would stand elsewhere in the document."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(member, definitions) for name, member in schema.items()}
    if isinstance(schema, list):
        return [_inlined(member, definitions) for member in schema]
    return schema


def _event_schema() -> dict[str, Any]:
    (event, used), definitions = msgspec.json.schema_components((CloudEvent, Used))
    schema: dict[str, Any] = _inlined(event, definitions)
    schema["properties"]["data"] = _inlined(used, definitions)
    return schema


EVENT = _event_schema()

REPORTS: dict[str, Any] = {
    "required": True,
    "content": {
        "application/cloudevents-batch+json": {"schema": {"type": "array", "items": EVENT, "maxItems": 1000}},
        "application/cloudevents+json": {"schema": EVENT},
    },
}

RESULT = {
    "type": "object",
    "required": ["id", "source", "outcome"],
    "properties": {
        "id": {"type": "string"},
        "source": {"type": "string"},
        "outcome": {
            "type": "string",
            "enum": ["accepted", "duplicate", "conflict", "refused", "quarantined"],
        },
        "event": {"type": "string", "format": "uuid", "description": "Its id in the books."},
        "code": {"type": "string", "enum": [*sorted(ItemCode), "conflict", "quarantined"]},
        "detail": {"type": "string"},
    },
    "additionalProperties": False,
}

ANSWER = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["results", "received_to"],
            "properties": {
                "results": {"type": "array", "items": RESULT},
                "received_to": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "By source: the number up to which nothing is missing.",
                },
            },
            "additionalProperties": False,
        }
    }
}

REPORTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Every event is in the books.", "content": ANSWER},
    207: {"description": "Some events are not; each result says why.", "content": ANSWER},
}
