"""What the chart's tests need of the operator: skipped with a reason in a tree that does not have it."""

import importlib
import importlib.util
import json
from typing import Any

import pytest

from tests.chart.helm import Release

PACKAGE = "headrace_platform.control"


def part_of_the_operator(name: str) -> Any:
    """Its module of that name, or None."""
    if importlib.util.find_spec(PACKAGE) is None or importlib.util.find_spec(f"{PACKAGE}.{name}") is None:
        return None
    # Importing the program's start needs all of its libraries, and a test of its image does that.
    return importlib.import_module(f"{PACKAGE}.{name}") if name != "__main__" else PACKAGE


def needed_part(name: str) -> Any:
    part = part_of_the_operator(name)
    if part is None:
        pytest.skip("the operator is not in this tree")
    return part


def operator_environment(release: Release) -> Any:
    """What the chart tells the operator of the cluster, as the operator itself reads it."""
    text = release.named("ConfigMap", "headrace-operator")["data"]["environment.json"]
    return needed_part("environment").decode_environment(json.loads(text))
