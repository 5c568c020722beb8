"""What the chart says to the operator, and what the operator's page says that it may do."""

import json
import re

from headrace_platform.control.environment import Environment, decode_environment
from tests.chart.helm import ROOT, Release

PAGE = ROOT / "docs" / "operations" / "operator.md"

Permission = tuple[str, str, str]
"""Group, resource, verb; the group of Kubernetes' own first kinds is empty."""


def operator_environment(release: Release) -> Environment:
    """What the chart tells the operator of the cluster, as the operator itself reads it."""
    return decode_environment(
        json.loads(release.named("ConfigMap", "headrace-operator")["data"]["environment.json"])
    )


def documented_role() -> set[Permission]:
    rows = re.findall(r"^\| `([^`]*)` \| `([^`]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {
        ("" if group == "core" else group, resource, verb.strip())
        for group, resource, verbs in rows
        for verb in verbs.split(",")
    }
