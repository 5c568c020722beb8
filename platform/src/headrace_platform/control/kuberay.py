"""What KubeRay 1.7 refuses though its schema takes it: the rules of its webhook and its Go code, checked offline.

Source: ray-operator/controllers/ray/utils/validation.go of v1.7.0. A RayService that breaks one is accepted by the
API server, and then stands there with an event that nobody reads.
"""

import re
from collections.abc import Iterator
from typing import Any

from headrace_platform.control.violation import Violation

SERVICE_NAME_CHARACTERS_MAX = 47
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
GROUP_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
GROUP_NAME_CHARACTERS_MAX = 63

UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
TOKEN_RAY_VERSION_MIN = (2, 52, 0)

RESOURCE_PARAMETERS = ("num-cpus", "num-gpus", "memory", "resources")
AUTOSCALER_V2_VARIABLE = "RAY_enable_autoscaler_v2"
# Ways to name the store of the fault-tolerant head that exclude `gcsFaultToleranceOptions`.
STORE_VARIABLES = ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD")
STORE_ANNOTATIONS = ("ray.io/ft-enabled", "ray.io/external-storage-namespace")


def violations(service: dict[str, Any]) -> list[Violation]:
    """Of a RayService."""
    return list(_violations(service))


def _violations(service: dict[str, Any]) -> Iterator[Violation]:
    name = service["metadata"]["name"]
    if len(name) > SERVICE_NAME_CHARACTERS_MAX or not DNS_1035.fullmatch(name):
        yield Violation(
            "ray_service_name",
            "metadata.name",
            f"use at most {SERVICE_NAME_CHARACTERS_MAX} lower-case letters, digits and dashes, a letter first",
        )
    spec = service["spec"]
    cluster = spec["rayClusterConfig"]
    path = "spec.rayClusterConfig"
    if "upgradeStrategy" in cluster:
        yield Violation(
            "ray_cluster_upgrade", f"{path}.upgradeStrategy", "leave it to the RayService's own strategy"
        )
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield Violation("ray_deletion_delay", "spec.rayClusterDeletionDelaySeconds", "use 0 or more")
    if cluster["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        yield Violation(
            "ray_head_service_name", f"{path}.headGroupSpec.headService.metadata.name", "leave it to KubeRay"
        )
    yield from _upgrade(spec.get("upgradeStrategy", {}), autoscaling=_autoscaling(cluster))
    yield from _token(cluster, path)
    yield from _fault_tolerance(service["metadata"].get("annotations", {}), cluster, path)
    yield from _group(cluster["headGroupSpec"], f"{path}.headGroupSpec", v2=_v2(cluster))
    for number, group in enumerate(cluster.get("workerGroupSpecs", ())):
        where = f"{path}.workerGroupSpecs[{number}]"
        yield from _group(group, where, v2=_v2(cluster))
        yield from _workers(group, where)
    yield from _autoscaler(cluster, path)


def _autoscaling(cluster: dict[str, Any]) -> bool:
    return bool(cluster.get("enableInTreeAutoscaling"))


def _v2(cluster: dict[str, Any]) -> bool:
    return _autoscaling(cluster) and cluster.get("autoscalerOptions", {}).get("version") == "v2"


def _upgrade(strategy: dict[str, Any], *, autoscaling: bool) -> Iterator[Violation]:
    path = "spec.upgradeStrategy"
    kind = strategy.get("type", "NewCluster")
    if kind not in UPGRADES:
        yield Violation("ray_upgrade_type", f"{path}.type", f"use one of {', '.join(UPGRADES)}")
    if kind != "NewClusterWithIncrementalUpgrade":
        return
    if not autoscaling:
        yield Violation("ray_upgrade_autoscaler", path, "set enableInTreeAutoscaling: shares need it")
    options = strategy.get("clusterUpgradeOptions")
    if options is None:
        yield Violation("ray_upgrade_options", f"{path}.clusterUpgradeOptions", "say them")
        return
    surge, step = options.get("maxSurgePercent", 100), options.get("stepSizePercent", -1)
    if not 0 <= step <= surge <= 100:
        yield Violation(
            "ray_upgrade_step", f"{path}.clusterUpgradeOptions.stepSizePercent", "use 0 ≤ step ≤ surge ≤ 100"
        )
    if options.get("intervalSeconds", 0) <= 0:
        yield Violation(
            "ray_upgrade_interval", f"{path}.clusterUpgradeOptions.intervalSeconds", "use 1 or more"
        )
    if not options.get("gatewayClassName"):
        yield Violation(
            "ray_upgrade_gateway", f"{path}.clusterUpgradeOptions.gatewayClassName", "name a GatewayClass"
        )


def _token(cluster: dict[str, Any], path: str) -> Iterator[Violation]:
    options = cluster.get("authOptions", {})
    if options.get("enableK8sTokenAuth"):
        yield Violation(
            "ray_token_kubernetes", f"{path}.authOptions.enableK8sTokenAuth", "a RayService can't have it"
        )
    if options.get("mode") != "token":
        return
    version = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", cluster.get("rayVersion", ""))
    if version is None or tuple(map(int, version.groups())) < TOKEN_RAY_VERSION_MIN:
        yield Violation("ray_token_version", f"{path}.rayVersion", "tokens need Ray 2.52.0 or later")


def _fault_tolerance(annotations: dict[str, str], cluster: dict[str, Any], path: str) -> Iterator[Violation]:
    options = cluster.get("gcsFaultToleranceOptions")
    head = f"{path}.headGroupSpec"
    parameters = cluster["headGroupSpec"].get("rayStartParams", {})
    variables = _variables(cluster["headGroupSpec"])
    if "redis-username" in parameters or "REDIS_USERNAME" in variables:
        yield Violation("ray_store_user", head, "use gcsFaultToleranceOptions.redisUsername")
    if options is None:
        if "RAY_REDIS_ADDRESS" in variables:
            yield Violation("ray_store", head, "use gcsFaultToleranceOptions instead of RAY_REDIS_ADDRESS")
        return
    given = [name for name in STORE_VARIABLES if name in variables]
    given += [name for name in STORE_ANNOTATIONS if annotations.get(name)]
    if "redis-password" in parameters:
        given.append("redis-password")
    if given:
        yield Violation("ray_store", head, f"gcsFaultToleranceOptions takes the place of {', '.join(given)}")
    if options.get("backend", "redis") == "redis" and "storage" in options:
        yield Violation(
            "ray_store_volume",
            f"{path}.gcsFaultToleranceOptions.storage",
            "leave it out: it goes with RocksDB",
        )


def _group(group: dict[str, Any], path: str, *, v2: bool) -> Iterator[Violation]:
    parameters = group.get("rayStartParams", {})
    if group.get("resources") and any(parameters.get(name) for name in RESOURCE_PARAMETERS):
        yield Violation(
            "ray_group_resources", f"{path}.resources", "say resources here or in rayStartParams, not in both"
        )
    if "labels" in parameters:
        yield Violation("ray_group_labels", f"{path}.rayStartParams", "use the group's field labels")
    pod = group["template"]["spec"]
    if not pod.get("containers"):
        yield Violation("ray_container", f"{path}.template.spec.containers", "Ray's container is missing")
    if v2 and pod.get("restartPolicy", "Never") != "Never":
        yield Violation(
            "ray_restart_policy",
            f"{path}.template.spec.restartPolicy",
            "autoscaler v2 wants Never or nothing",
        )


def _workers(group: dict[str, Any], path: str) -> Iterator[Violation]:
    name = group["groupName"]
    if len(name) > GROUP_NAME_CHARACTERS_MAX or not GROUP_NAME.fullmatch(name):
        yield Violation("ray_group_name", f"{path}.groupName", "use a DNS label")
    least, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
    if not 0 <= least <= most:
        yield Violation("ray_group_bounds", path, "use 0 ≤ minReplicas ≤ maxReplicas")
    if group.get("suspend"):
        yield Violation("ray_group_suspend", f"{path}.suspend", "suspend the RayService instead")


def _autoscaler(cluster: dict[str, Any], path: str) -> Iterator[Violation]:
    options = cluster.get("autoscalerOptions", {})
    variables = _variables(cluster["headGroupSpec"])
    if AUTOSCALER_V2_VARIABLE in variables and ("version" in options or not _autoscaling(cluster)):
        yield Violation(
            "ray_autoscaler_version",
            f"{path}.autoscalerOptions.version",
            f"use it with enableInTreeAutoscaling, and not {AUTOSCALER_V2_VARIABLE}",
        )
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield Violation(
            "ray_autoscaler_idle", f"{path}.autoscalerOptions.idleTimeoutSeconds", "use 0 or more"
        )


def _variables(group: dict[str, Any]) -> set[str]:
    containers = group["template"]["spec"].get("containers", ())
    return {variable["name"] for container in containers[:1] for variable in container.get("env", ())}
