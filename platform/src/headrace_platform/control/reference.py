"""The reference page of `ModelDeployment`, made from the definition: `python -m headrace_platform.control.reference`."""

import sys
from collections.abc import Iterator
from typing import Any

from headrace_platform.control import crd
from headrace_platform.control.deployment import DEPLOYMENT_NAME_CHARACTERS_MAX, GROUP, KIND, VERSION
from headrace_platform.control.status import ConditionType

EXAMPLE = """\
apiVersion: headrace.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: acme-glm
  namespace: acme
spec:
  tenantRef: {org: acme}                  # the keys of this organisation alone
  model:
    id: glm-4.7
    format: fp8
    servedNames: [acme/glm]
    source:
      sha256: 3f5e0c1b7a9d48e6b2c4f10d9e8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f00
      s3: {uri: s3://acme-models/glm-4.7-fp8, sizeGib: 480, region: eu-central-1}
  accelerator: {profile: h200, count: 8}  # a replica has a whole node
  parallelism: {tensor: 8}
  scaling:
    mode: policy
    minReplicas: 1
    maxReplicas: 2
    schedules:
      - name: office-hours
        window: {days: [Mon, Tue, Wed, Thu, Fri], start: "08:00", end: "19:00", timeZone: Europe/Berlin}
        minReplicas: 2
        maxReplicas: 2
  routing: {policy: session, overflow: true, waitSeconds: 10}  # what finds it full goes on to those of all
  upgrade:
    strategy: NewCluster                  # a second cluster for a while: its quota is 32 H200s
    window: {days: [Sat, Sun], start: "22:00", end: "06:00"}
"""

INTRODUCTION = f"""\
# {KIND}

<!-- Made by `python -m headrace_platform.control.reference`; a test holds this page to it. -->

A `{KIND}` ({GROUP}/{VERSION}, short name `md`) is one model, served on accelerators for one organisation or
for all. The operator makes Ray clusters of it, as KubeRay's `RayService`, with what belongs to them: network policies,
disruption budgets, a metrics monitor, the volume of its weights, and the gateway's route. `headrace render FILE
--environment FILE` prints all of that without a cluster; what is wrong is told with the field's path and what to change.

Keys, prices and limits are no part of it: those belong to organisations. A name has at most
{DEPLOYMENT_NAME_CHARACTERS_MAX} characters. More than fifty workers become several Ray clusters, each with a line of its
own in the gateway's table.

## Example

```yaml
{EXAMPLE}```

`sha256` is what `python -m headrace_platform.serving.weights checksum FOLDER` prints: the checksum of the list that
names each file by its own. Every worker verifies it before its engine starts.

Secrets are named, never told: those of the operator's settings and of the source have to be in the deployment's
namespace. Whoever may write a `ModelDeployment` may choose the engine's image, which is given billing's ingest token, so
that right belongs to those who run the platform, also in a tenant's namespace.
"""

MEANINGS = {
    ConditionType.ACCEPTED: "The spec breaks no rule. The reason is the first rule that it does break.",
    ConditionType.SOURCE_READY: "The weights are where the spec says.",
    ConditionType.CAPACITY_AVAILABLE: "Quota and nodes suffice, for an upgrade too.",
    ConditionType.CLUSTER_READY: "Ray's head and workers are up.",
    ConditionType.SERVE_READY: "Serve's application is healthy.",
    ConditionType.ENDPOINT_READY: "The model answered, and the gateway has its route.",
    ConditionType.UPGRADE_IN_PROGRESS: "A second cluster stands beside the first.",
    ConditionType.DEGRADED: "It serves, with less than it should.",
    ConditionType.READY: "Accepted, ClusterReady, ServeReady and EndpointReady at once.",
}

ENDING = """
`Ready` is false, not unknown, while any of its parts is. A condition's transition time changes with its status alone.
"""

BOUNDS = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("maxItems", "at most {} of them"),
    ("maxProperties", "at most {} of them"),
)


def page() -> str:
    """The whole of it, in Markdown."""
    schema = crd.schema()["properties"]
    parts = [
        INTRODUCTION,
        "## spec\n\nWhat is not there has the default.\n",
        table(schema["spec"]),
        "## status\n",
        table(schema["status"]),
        "## Conditions\n\n| condition | true when |\n|---|---|",
        *(f"| `{condition}` | {MEANINGS[condition]} |" for condition in ConditionType),
        ENDING,
    ]
    return "\n".join(parts)


def table(schema: dict[str, Any]) -> str:
    rows = [
        f"| `{path}` | {kind} | {default} | {meaning} |" for path, kind, default, meaning in rows_of(schema)
    ]
    return "\n".join(("| field | type | default | meaning |", "|---|---|---|---|", *rows, ""))


def rows_of(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every field that holds a value, by its path."""
    for name, inner in schema["properties"].items():
        path = f"{prefix}{name}"
        needed = name in schema.get("required", ())
        leaf = inner["items"] if inner["type"] == "array" else inner
        if "properties" in leaf:
            if "description" in inner:
                yield path, kind_of(inner), default_of(inner, needed=needed), inner["description"]
            yield from rows_of(leaf, f"{path}[]." if leaf is not inner else f"{path}.")
            continue
        yield path, kind_of(inner), default_of(inner, needed=needed), meaning_of(inner)


def kind_of(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " · ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {kind_of(schema['items'])}"
    if schema["type"] == "object":
        return "map of strings" if "additionalProperties" in schema else "object"
    return str(schema["type"])


def default_of(schema: dict[str, Any], *, needed: bool) -> str:
    default = schema.get("default")
    if needed:
        return "needed"
    if default is None or default == {}:
        return "" if default == {} else "optional"
    if default == []:
        return "none"
    if default == "":
        return "empty"
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def meaning_of(schema: dict[str, Any]) -> str:
    bounds = [text.format(schema[name]) for name, text in BOUNDS if name in schema]
    return " ".join(
        part for part in (schema.get("description"), f"({', '.join(bounds)})" if bounds else None) if part
    )


if __name__ == "__main__":
    sys.stdout.write(page())
