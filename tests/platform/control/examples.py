"""Deployments and the operator's settings that tests share, and how one of them is changed at a path."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from headrace_platform.control.deployment import ModelDeployment, decode
from headrace_platform.control.environment import Environment, decode_environment

HERE = Path(__file__).parent
DEPLOYMENTS = sorted((HERE / "deployments").glob("*.yaml"))
RENDERED = HERE / "rendered"
ENVIRONMENT = HERE / "environment.yaml"

NAMES = [path.stem for path in DEPLOYMENTS]

SHA256 = "ab" * 32


@cache
def _parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def body(name: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The object in `deployments/<name>.yaml`, with `changes` at dotted paths below `spec`; None takes one away."""
    return changed(_parsed(HERE / "deployments" / f"{name}.yaml"), "spec", changes or {})


def deployment(name: str, changes: dict[str, Any] | None = None) -> ModelDeployment:
    return decode(body(name, changes))


def environment(changes: dict[str, Any] | None = None) -> Environment:
    return decode_environment(changed({"all": _parsed(ENVIRONMENT)}, "all", changes or {})["all"])


def changed(whole: dict[str, Any], root: str, changes: dict[str, Any]) -> dict[str, Any]:
    result = deepcopy(whole)
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = result[root]
        for parent in parents:
            at = at.setdefault(parent, {})
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return result
