"""Merge patches (RFC 7396) and JSON patches (RFC 6902), the part of the latter that controllers send."""

from copy import deepcopy
from typing import Any

from tests.support.kubernetes.refusals import Refusal


def merged(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), change)
    return result


def patched(value: Any, operations: list[dict[str, Any]]) -> Any:
    """All of the operations or, by a `Refusal`, none."""
    document = deepcopy(value)
    for operation in operations:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"][1:].split("/")
        ]
        holder = document
        for name in parents:
            holder = _member(holder, name)
        match operation["op"]:
            case "test":
                if _member(holder, last) != operation["value"]:
                    raise Refusal(422, f"testing value {operation['path']} failed")
            case "add" if isinstance(holder, list):
                holder.insert(len(holder) if last == "-" else int(last), operation["value"])
            case "add" | "replace":
                if operation["op"] == "replace":
                    _member(holder, last)
                holder[int(last) if isinstance(holder, list) else last] = operation["value"]
            case "remove":
                _member(holder, last)
                del holder[int(last) if isinstance(holder, list) else last]
            case other:
                raise Refusal(422, f"unsupported operation {other!r}")
    return document


def _member(holder: Any, name: str) -> Any:
    try:
        return holder[int(name) if isinstance(holder, list) else name]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Refusal(422, f"the path has no {name!r}") from error
