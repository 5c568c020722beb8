"""The CustomResourceDefinition, made from the types: `python -m headrace_platform.control.crd` prints it.

The structural schema is JSON Schema with everything in place of its reference, `null` left out (the API server
prunes it) and defaults written out.
"""

import sys
from typing import Any

import msgspec
import yaml

from headrace_platform.control.deployment import (
    DEPLOYMENT_NAME_CHARACTERS_MAX,
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    Spec,
)
from headrace_platform.control.status import Status

# Rules of more than one field, or of a change, which a schema can't say. A path below the schema's root, and
# the rules there. Those that know the operator's environment or the catalogue are in `rules`.
VALIDATIONS: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {
    (): (
        (
            f"size(self.metadata.name) <= {DEPLOYMENT_NAME_CHARACTERS_MAX}",
            f"metadata.name may have {DEPLOYMENT_NAME_CHARACTERS_MAX} characters, for Ray's clusters add theirs",
        ),
        (
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must begin with a letter and hold lower-case letters, digits and dashes",
        ),
    ),
    ("spec",): (
        (
            (
                "has(self.tenantRef) == has(oldSelf.tenantRef)"
                " && (!has(self.tenantRef) || self.tenantRef.org == oldSelf.tenantRef.org)"
            ),
            "tenantRef can't be changed: make another deployment",
        ),
        (
            "!has(self.routing) || !has(self.routing.overflow) || !self.routing.overflow || has(self.tenantRef)",
            "routing.overflow goes with tenantRef: only an organisation's own deployment has others to go on to",
        ),
    ),
    ("spec", "model", "source"): (
        (
            (
                "[has(self.s3), has(self.pvc), has(self.oci), has(self.hf), has(self.hostPath)]"
                ".filter(given, given).size() == 1"
            ),
            "give exactly one of s3, pvc, oci, hf and hostPath",
        ),
        (
            "has(self.oci) || has(self.sha256)",
            "sha256 is needed: only an image's digest proves its content already",
        ),
    ),
    ("spec", "scaling"): (
        ("self.minReplicas <= self.maxReplicas", "minReplicas is above maxReplicas"),
        ("self.mode != 'policy' || !has(self.replicas)", "replicas goes with the modes fixed and external"),
    ),
    # A time is one already to an API server, and words to other readers of the rule; `timestamp` takes both.
    ("spec", "lifecycle"): (
        (
            (
                "!has(self.deprecatedAt) || !has(self.sunsetAt)"
                " || timestamp(self.sunsetAt) >= timestamp(self.deprecatedAt)"
            ),
            "sunsetAt is before deprecatedAt",
        ),
    ),
    ("spec", "upgrade"): (("self.stepPercent <= self.surgePercent", "stepPercent is above surgePercent"),),
}

COLUMNS = (
    ("Model", "string", ".spec.model.id", 0),
    ("Profile", "string", ".spec.accelerator.profile", 0),
    ("Replicas", "integer", ".status.replicas", 0),
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0),
    ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", 0),
    ("GPUs", "integer", ".status.accelerators", 0),
    ("Tenant", "string", ".spec.tenantRef.org", 1),
    ("Weight", "integer", ".spec.routing.weight", 1),
    ("Endpoint", "string", ".status.endpoint", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

# JSON Schema that a structural schema takes as it is.
KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
)


def definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["md"],
                "categories": ["headrace"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                        for name, kind, path, priority in COLUMNS
                    ],
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.scaling.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def schema() -> dict[str, Any]:
    """Of the whole object."""
    (spec, status), definitions = msgspec.json.schema_components(
        (Spec, Status), ref_template="#/$defs/{name}"
    )
    root: dict[str, Any] = {
        "description": "One model, served on accelerators for one organisation or for all.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(spec, definitions),
            "status": structural(status, definitions),
        },
    }
    for path, rules in VALIDATIONS.items():
        at = root
        for name in path:
            at = at["properties"][name]
        at["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    conditions = root["properties"]["status"]["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    root["properties"]["spec"]["properties"]["routing"]["properties"]["projects"] |= {
        "x-kubernetes-list-type": "set"
    }
    return root


def structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Without references, alternatives and `null`."""
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return structural({**target, **{key: node[key] for key in node if key != "$ref"}}, definitions)
    if "anyOf" in node:
        (meant,) = (each for each in node["anyOf"] if each != {"type": "null"})
        about = {key: node[key] for key in node if key != "anyOf"}
        return structural({**meant, **about}, definitions)
    result = {key: node[key] for key in KEPT if key in node and node[key] != []}
    if "enum" in node:
        result["type"] = "string"
    default = node.get("default")
    if default is not None:
        # An object's own fields have their defaults, which the API server fills in one level at a time.
        result["default"] = (
            {} if isinstance(default, dict) else list(default) if isinstance(default, tuple) else default
        )
    if "properties" in node:
        result["properties"] = {
            name: structural(child, definitions) for name, child in node["properties"].items()
        }
    if "items" in node:
        result["items"] = structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(node["additionalProperties"], definitions)
    return result


class _Text(yaml.SafeDumper):
    """No anchors: the same words twice are easier to read than a reference."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def text() -> str:
    """The file in the chart's folder `crds`."""
    dumped: str = yaml.dump(definition(), Dumper=_Text, sort_keys=False, allow_unicode=True, width=110)
    return (
        "# Made by `python -m headrace_platform.control.crd`; the types in control/deployment.py are its source.\n"
        + dumped
    )


if __name__ == "__main__":
    sys.stdout.write(text())
