"""Server-side apply: who owns which field, what an apply changes, and with whom it conflicts.

A field is a path of names; an item of a list that is a map is named by its keys, an item of a set by its value.
Lists of another type and scalars are owned whole.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tests.support.kubernetes.refusals import Refusal

Path = tuple[str, ...]
Schema = Mapping[str, Any]

# Names that are the server's own, or say which object is meant.
UNOWNED = {("apiVersion",), ("kind",)} | {
    ("metadata", name)
    for name in (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
        "deletionGracePeriodSeconds", "managedFields", "generateName", "selfLink",
    )
}  # fmt: skip

OF_METADATA: Schema = {
    "properties": {
        "ownerReferences": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
        "finalizers": {"x-kubernetes-list-type": "set"},
    }
}
# What the built-in kinds' own schemas say of the lists that an operator writes.
OF_SERVICES: Schema = {
    "properties": {
        "spec": {
            "properties": {
                "ports": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]}
            }
        }
    }
}


@dataclass(frozen=True)
class Manager:
    """Who writes, and how: one name that applies and updates is two managers, as in a cluster."""

    name: str
    operation: str
    subresource: str = ""


Owners = dict[Manager, frozenset[Path]]


@dataclass(frozen=True)
class Applied:
    content: dict[str, Any]
    owners: Owners


def apply(
    live: dict[str, Any],
    owners: Owners,
    wanted: dict[str, Any],
    manager: Manager,
    schema: Schema,
    *,
    force: bool,
) -> Applied:
    """What the object is after an apply, and who owns its fields; a `Refusal` names conflicts."""
    schema = _whole(schema)
    wanted = _with_keys(wanted, schema)
    new = frozenset(fields(wanted, schema))
    before = owners.get(manager, frozenset())
    conflicts = [
        (other, path)
        for path in sorted(new)
        for other, owned in owners.items()
        if other != manager and path in owned and _at(live, path) != _at(wanted, path)
    ]
    if conflicts and not force:
        raise Refusal(
            409,
            f"Apply failed with {len(conflicts)} conflicts",
            causes=[
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{other.name}"',
                    "field": "." + ".".join(path),
                }
                for other, path in conflicts
            ],
        )
    lost = {other: frozenset(path for of, path in conflicts if of == other) for other, _ in conflicts}
    after = {
        other: owned - lost.get(other, frozenset()) for other, owned in owners.items() if other != manager
    }
    others = frozenset[Path]().union(*after.values())
    content = deepcopy(live)
    # Items first: without the fields that name it an item can't be found any more.
    for path in sorted(before - new - others, key=lambda path: (not path[-1].startswith("k:"), -len(path))):
        if not any(other[: len(path)] == path for other in others):
            _remove(content, path)
    content = _merge(content, wanted, schema)
    return Applied(content, _without_empty({**after, manager: new}))


def updated(
    old: dict[str, Any], new: dict[str, Any], owners: Owners, manager: Manager, schema: Schema
) -> Owners:
    """Owners after a plain write: what it changed is its own, what it removed is nobody's."""
    schema = _whole(schema)
    had, has = set(fields(old, schema)), set(fields(new, schema))
    changed = {path for path in has if path not in had or _at(old, path) != _at(new, path)}
    kept = {
        other: frozenset(path for path in owned if path in has and path not in changed)
        for other, owned in owners.items()
    }
    return _without_empty({**kept, manager: kept.get(manager, frozenset()) | changed})


def managed_fields(owners: Owners) -> list[dict[str, Any]]:
    """As they stand in an object's metadata."""
    entries = []
    for manager, owned in sorted(owners.items(), key=lambda item: (item[0].name, item[0].operation)):
        tree: dict[str, Any] = {}
        for path in sorted(owned):
            branch = tree
            for name in path:
                branch = branch.setdefault(name if name.startswith(("k:", "v:")) else f"f:{name}", {})
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "fieldsType": "FieldsV1",
            "fieldsV1": tree,
        }
        entries.append({**entry, "subresource": manager.subresource} if manager.subresource else entry)
    return entries


def fields(value: Any, schema: Schema, path: Path = ()) -> Iterator[Path]:
    """The paths that are owned by whoever writes this value."""
    if path in UNOWNED:
        return
    if isinstance(value, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        for name, item in value.items():
            yield from fields(item, _of_property(schema, name), (*path, name))
        if not value and path:
            yield path
    elif isinstance(value, list) and _by_item(schema):
        for item in value:
            name = _item_name(item, schema)
            yield (*path, name)
            if isinstance(item, dict):
                yield from fields(item, schema.get("items", {}), (*path, name))
    else:
        yield path


def _with_keys(value: Any, schema: Schema) -> Any:
    """With the keys that name items of a list filled in where they have a default: an unsaid protocol is TCP."""
    if isinstance(value, dict):
        return {name: _with_keys(item, _of_property(schema, name)) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    of_item = schema.get("items", {})
    defaults = {
        key: of_item["properties"][key]["default"]
        for key in schema.get("x-kubernetes-list-map-keys", ())
        if "default" in of_item.get("properties", {}).get(key, {})
    }
    items = [_with_keys(item, of_item) for item in value]
    return [{**defaults, **item} if isinstance(item, dict) else item for item in items]


def _merge(live: Any, wanted: Any, schema: Schema) -> Any:
    if isinstance(wanted, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        result = dict(live) if isinstance(live, dict) else {}
        for name, item in wanted.items():
            result[name] = _merge(result.get(name), item, _of_property(schema, name))
        return result
    if isinstance(wanted, list) and _by_item(schema):
        result_by_name = {_item_name(item, schema): item for item in live or []}
        for item in wanted:
            name = _item_name(item, schema)
            result_by_name[name] = _merge(result_by_name.get(name), item, schema.get("items", {}))
        return list(result_by_name.values())
    return deepcopy(wanted)


_ABSENT = object()


def _at(value: Any, path: Path) -> Any:
    for name in path:
        if isinstance(value, list):
            value = next((item for item in value if _has_name(item, name)), _ABSENT)
        elif isinstance(value, dict):
            value = value.get(name, _ABSENT)
        else:
            return _ABSENT
        if value is _ABSENT:
            return _ABSENT
    # Items own their being there; what they hold are fields of their own.
    return None if path and path[-1].startswith("k:") else value


def _remove(value: dict[str, Any], path: Path) -> None:
    holders: list[Any] = [value]
    for name in path[:-1]:
        holder = holders[-1]
        found = (
            next((item for item in holder if _has_name(item, name)), None)
            if isinstance(holder, list)
            else holder.get(name)
        )
        if not isinstance(found, dict | list):
            return
        holders.append(found)
    for holder, name in zip(reversed(holders), reversed(path), strict=True):
        if isinstance(holder, list):
            holder[:] = [item for item in holder if not _has_name(item, name)]
        else:
            holder.pop(name, None)
        if holder:
            return


def _has_name(item: Any, name: str) -> bool:
    kind, _, text = name.partition(":")
    wanted = json.loads(text)
    if kind == "v":
        return bool(item == wanted)
    return isinstance(item, dict) and all(item.get(key) == value for key, value in wanted.items())


def _item_name(item: Any, schema: Schema) -> str:
    if schema["x-kubernetes-list-type"] == "set":
        return f"v:{json.dumps(item)}"
    keys = {key: item.get(key) for key in schema["x-kubernetes-list-map-keys"]}
    return f"k:{json.dumps({key: value for key, value in keys.items() if value is not None}, sort_keys=True)}"


def _by_item(schema: Schema) -> bool:
    return schema.get("x-kubernetes-list-type") in ("map", "set")


def _of_property(schema: Schema, name: str) -> Schema:
    found = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
    return found if isinstance(found, Mapping) else {}


def _whole(schema: Schema) -> Schema:
    return {**schema, "properties": {**schema.get("properties", {}), "metadata": OF_METADATA}}


def _without_empty(owners: Mapping[Manager, Iterable[Path]]) -> Owners:
    return {manager: frozenset(owned) for manager, owned in owners.items() if owned}
