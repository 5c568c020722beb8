"""Whether an API server would take an object: its own kinds by their published schemas, others by their definition.

A definition's defaults are filled in first, as the server does: schemas of KubeRay, for one, require what they
default. Rules in CEL are not run.
"""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml
from kubernetes_validate import utils  # type: ignore[import-untyped]
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Schema = dict[str, Any]
Manifest = dict[str, Any]


def problems_of_built_in(manifest: Manifest, kubernetes: str) -> list[str]:
    """What a cluster of that version (`1.33`) has against an object of one of its own kinds; unknown fields too."""
    return list(_checked(json.dumps(manifest, sort_keys=True), kubernetes))


@functools.cache
def _checked(text: str, kubernetes: str) -> tuple[str, ...]:
    """Most objects are the same in most sets of values, and a check takes milliseconds."""
    manifest = json.loads(text)
    return tuple(_problems(_built_in(manifest["apiVersion"], manifest["kind"], kubernetes), manifest))


@functools.cache
def _built_in(api_version: str, kind: str, kubernetes: str) -> jsonschema.Draft202012Validator:
    folder = f"kubernetes-json-schema/v{kubernetes}.0-local-strict"
    group, _, version = api_version.rpartition("/")
    short = f"{group.partition('.')[0]}-{version}" if group else version
    schema = utils.schema_contents(f"{folder}/{kind.lower()}-{short}.json", kubernetes)
    return jsonschema.Draft202012Validator(schema, registry=_definitions(folder, kubernetes))


@functools.cache
def _definitions(folder: str, kubernetes: str) -> Registry[Any]:
    definitions = utils.schema_contents(f"{folder}/_definitions.json", kubernetes)
    resource: Resource[Any] = Resource.from_contents(definitions, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("_definitions.json", resource)
    return registry


class Definition:
    """A CustomResourceDefinition as it stands in a file."""

    def __init__(self, path: Path) -> None:
        document = yaml.load(path.read_text(), yaml.CSafeLoader)
        self.kind: str = document["spec"]["names"]["kind"]
        self._schemas: dict[str, Schema] = {
            f"{document['spec']['group']}/{version['name']}": version["schema"]["openAPIV3Schema"]
            for version in document["spec"]["versions"]
            if version["served"]
        }
        self._validators: dict[str, jsonschema.Draft202012Validator] = {}

    def problems(self, manifest: Manifest) -> list[str]:
        schema = self._schemas.get(manifest["apiVersion"])
        if schema is None:
            return [f"{manifest['apiVersion']} is not served"]
        validator = self._validators.get(manifest["apiVersion"])
        if validator is None:
            validator = jsonschema.Draft202012Validator(_closed(schema, root=True))
            self._validators[manifest["apiVersion"]] = validator
        filled = copy.deepcopy(manifest)
        _fill_in(schema, filled)
        return _problems(validator, filled)


def _problems(validator: jsonschema.Draft202012Validator, manifest: Manifest) -> list[str]:
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(manifest)]


def _fill_in(schema: Schema, value: Any) -> None:
    if isinstance(value, dict):
        for name, property_schema in schema.get("properties", {}).items():
            if name not in value and "default" in property_schema:
                value[name] = copy.deepcopy(property_schema["default"])
            if name in value:
                _fill_in(property_schema, value[name])
        if isinstance(others := schema.get("additionalProperties"), dict):
            for name in value.keys() - schema.get("properties", {}).keys():
                _fill_in(others, value[name])
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for item in value:
            _fill_in(items, item)


def _closed(schema: Schema, *, root: bool = False) -> Schema:
    """The structural schema as JSON Schema that refuses what a server would prune."""
    closed = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and "type" in closed:
        closed["type"] = [closed["type"], "null"]
    if "properties" in schema:
        closed["properties"] = {name: _closed(value) for name, value in schema["properties"].items()}
        if root:
            # What every object has, which a definition does not spell out.
            closed["properties"] |= {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {},
            }
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        closed["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = _closed(schema["additionalProperties"])
    return closed
