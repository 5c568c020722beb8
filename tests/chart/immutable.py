"""Fields that an API server refuses to change, so that a release with other ones could not be upgraded to.

`python -m tests.chart.immutable` prints those of the chart as it is. The record of a version in `released/` is written
once, when the version is released; that of a version which nobody has installed yet may be written anew.
"""

import json
import sys
from typing import Any

from tests.chart.helm import Manifest, Release, running_helm
from tests.chart.releases import DEV, EXTERNAL

Fields = dict[str, Any]

# The two that differ in what they make; every other set of values changes what these have.
INSTALLED = {"external": EXTERNAL, "dev": DEV}


def immutable_fields(release: Release) -> dict[str, Fields]:
    """By kind and name, for what lives from one release to the next."""
    found = {}
    for manifest in release.objects:
        fields = _of(manifest)
        if fields and not manifest["metadata"].get("annotations", {}).get("helm.sh/hook"):
            found[f"{manifest['kind']}/{manifest['metadata']['name']}"] = fields
    return found


def _of(manifest: Manifest) -> Fields:
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Deployment":
            return {"selector": spec["selector"]}
        case "StatefulSet":
            return {name: spec[name] for name in ("selector", "serviceName", "volumeClaimTemplates")}
        case "Service":
            return {"headless": spec.get("clusterIP") == "None"}
        case "RoleBinding" | "ClusterRoleBinding":
            return {"roleRef": manifest["roleRef"]}
        case "Job":
            return {"template": spec["template"]}
        case _:
            return {}


def main() -> None:
    with running_helm() as helm:
        # A Job's name changes with what it runs, so no version has it of another.
        record = {
            name: {key: fields for key, fields in immutable_fields(helm.render(values)).items() if not key.startswith("Job/")}
            for name, values in INSTALLED.items()
        }  # fmt: skip
    json.dump(record, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
