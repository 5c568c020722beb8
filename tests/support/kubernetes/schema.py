"""Structural schemas as the API server uses them: defaults filled in first, then everything checked.

Unknown fields are refused, as under `fieldValidation=Strict`. Rules in CEL are not evaluated.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

Schema = Mapping[str, Any]

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}

# What every object has beside its schema.
OF_EVERY_OBJECT = frozenset({"apiVersion", "kind", "metadata"})


def with_defaults(value: Any, schema: Schema) -> Any:
    """A copy of the value in which what is missing has the schema's default; null counts as missing."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if "default" in inner and (
                name not in filled or (filled[name] is None and not inner.get("nullable"))
            ):
                filled[name] = deepcopy(inner["default"])
        return {name: with_defaults(item, _of_property(schema, name)) for name, item in filled.items()}
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    return value


def violations(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Each thing that the schema forbids, with where it is."""
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield f"{path}: must be an integer or a string"
        return
    wanted = schema.get("type")
    if wanted and (not isinstance(value, TYPES[wanted]) or (wanted != "boolean" and isinstance(value, bool))):
        yield f"{path}: must be of type {wanted}, not {type(value).__name__}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: unsupported value {value!r}; supported: {schema['enum']}"
    if isinstance(value, str):
        yield from _of_string(value, schema, path)
    elif isinstance(value, int | float):
        yield from _of_number(value, schema, path)
    elif isinstance(value, list):
        yield from _of_list(value, schema, path)
    elif isinstance(value, dict):
        yield from _of_object(value, schema, path)


def _of_string(value: str, schema: Schema, path: str) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path}: is too short or too long"
    if schema.get("format") == "date-time" and not _is_moment(value):
        yield f"{path}: {value!r} is no date and time"


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _of_number(value: float, schema: Schema, path: str) -> Iterator[str]:
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value} is out of range"


def _of_list(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{path}: has too few or too many items"
    if schema.get("x-kubernetes-list-type") == "set" and any(
        item in value[:number] for number, item in enumerate(value)
    ):
        yield f"{path}: holds the same twice"
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys:
        identities = [tuple(item.get(key) for key in keys) for item in value if isinstance(item, dict)]
        if len(set(identities)) < len(identities):
            yield f"{path}: two items have the same {keys}"
    for number, item in enumerate(value):
        yield from violations(item, schema.get("items", {}), f"{path}[{number}]")


def _of_object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
        yield f"{path}: has too few or too many fields"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: required value"
    whole_object = not path or schema.get("x-kubernetes-embedded-resource")
    for name, item in value.items():
        if whole_object and name in OF_EVERY_OBJECT:
            continue
        if not _knows(schema, name):
            yield f"{path}.{name}: unknown field"
        yield from violations(item, _of_property(schema, name), f"{path}.{name}")


def _knows(schema: Schema, name: str) -> bool:
    return (
        name in schema.get("properties", {})
        or bool(schema.get("additionalProperties"))
        or schema.get("x-kubernetes-preserve-unknown-fields") is True
        or "type" not in schema
    )


def _of_property(schema: Schema, name: str) -> Schema:
    found = schema.get("properties", {}).get(name)
    if found is None:
        found = schema.get("additionalProperties", {})
    return found if isinstance(found, Mapping) else {}
