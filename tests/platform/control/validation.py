"""Holding rendered objects to what a cluster would take: schemas, KubeRay's own rules, and Pod Security."""

from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from headrace_platform.control import kuberay
from headrace_platform.control.labels import Manifest
from tests.architecture.tree import ROOT
from tests.support.kubernetes.schema import violations, with_defaults

# Definitions of other projects: for tests to read where they are at hand, and no part of this project.
DEFINITIONS = ROOT.parent / "shared" / "crds"

VERSIONS = ("1.35", "1.36", "1.37")

BUILT_IN = {
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
}


def problems(manifest: Manifest) -> list[str]:
    """What an API server or KubeRay would refuse it for. Skips the test where a definition isn't at hand."""
    if manifest["kind"] in BUILT_IN:
        found = []
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{version}: {error}")
        return found
    schema = definition(manifest["apiVersion"], manifest["kind"])
    found = list(violations(with_defaults(manifest, schema), schema))
    if manifest["kind"] == "RayService":
        found += [f"{broken.path}: {broken.message}" for broken in kuberay.violations(manifest)]
    return found


@cache
def definition(api_version: str, kind: str) -> dict[str, Any]:
    group, version = api_version.split("/")
    file = DEFINITIONS / f"{group}_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(f"the definition of {kind} is not at hand")
    return versions(file)[version]


@cache
def versions(file: Path) -> dict[str, dict[str, Any]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    whole = yaml.load(file.read_text(), Loader=loader)  # noqa: S506  (both are safe)
    return {each["name"]: each["schema"]["openAPIV3Schema"] for each in whole["spec"]["versions"]}


def pod_specs(manifest: Manifest) -> list[dict[str, Any]]:
    """Of Ray's head and workers; empty for what has no pods."""
    if manifest["kind"] != "RayService":
        return []
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def unrestricted(pod: dict[str, Any]) -> list[str]:
    """Why Kubernetes' restricted level would not admit the pod."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    of_pod = pod.get("securityContext", {})
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim"}
    allowed |= {"projected", "secret"}
    for volume in pod.get("volumes", ()):
        found += [f"volume {kind}" for kind in volume.keys() - {"name"} - allowed]
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{container['name']}: allowPrivilegeEscalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{container['name']}: capabilities")
        if not {**of_pod, **own}.get("runAsNonRoot"):
            found.append(f"{container['name']}: runAsNonRoot")
        if {**of_pod, **own}.get("seccompProfile") != {"type": "RuntimeDefault"}:
            found.append(f"{container['name']}: seccompProfile")
        if {**of_pod, **own}.get("runAsUser") == 0 or own.get("privileged"):
            found.append(f"{container['name']}: root")
    return found
