"""KubeRay's own rules, which its schema does not know, on a RayService that breaks one at a time."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from headrace_platform.control import kuberay
from headrace_platform.control.labels import Manifest
from headrace_platform.control.render import render
from tests.platform.control.examples import deployment, environment

CLUSTER = "spec.rayClusterConfig"
HEAD = f"{CLUSTER}.headGroupSpec"
WORKERS = f"{CLUSTER}.workerGroupSpecs.0"
OPTIONS = "spec.upgradeStrategy.clusterUpgradeOptions"
HEAD_ENV = f"{HEAD}.template.spec.containers.0.env"


@cache
def rendered() -> Manifest:
    return next(
        manifest
        for manifest in render(deployment("incremental"), environment())
        if manifest["kind"] == "RayService"
    )


def with_value(path: str, value: Any) -> Manifest:
    service = deepcopy(rendered())
    at: Any = service
    *parents, last = path.split(".")
    for parent in parents:
        at = at[int(parent)] if isinstance(at, list) else at.setdefault(parent, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    return service


def test_what_is_rendered_breaks_none() -> None:
    assert kuberay.violations(rendered()) == []


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("metadata.name", "a" * 48, "ray_service_name"),
        ("metadata.name", "1st", "ray_service_name"),
        ("spec.rayClusterDeletionDelaySeconds", -1, "ray_deletion_delay"),
        ("spec.upgradeStrategy.type", "Recreate", "ray_upgrade_type"),
        (f"{OPTIONS}.stepSizePercent", 26, "ray_upgrade_step"),
        (f"{OPTIONS}.maxSurgePercent", 101, "ray_upgrade_step"),
        (f"{OPTIONS}.intervalSeconds", 0, "ray_upgrade_interval"),
        (f"{OPTIONS}.gatewayClassName", "", "ray_upgrade_gateway"),
        (OPTIONS, None, "ray_upgrade_options"),
        (f"{CLUSTER}.enableInTreeAutoscaling", False, "ray_upgrade_autoscaler"),
        (f"{CLUSTER}.upgradeStrategy", {"type": "Recreate"}, "ray_cluster_upgrade"),
        (f"{CLUSTER}.rayVersion", "2.51.0", "ray_token_version"),
        (f"{CLUSTER}.rayVersion", "nightly", "ray_token_version"),
        (f"{CLUSTER}.authOptions.enableK8sTokenAuth", True, "ray_token_kubernetes"),
        (f"{CLUSTER}.gcsFaultToleranceOptions.storage", {"size": "1Gi"}, "ray_store_volume"),
        (HEAD_ENV, [{"name": "RAY_REDIS_ADDRESS", "value": "x"}], "ray_store"),
        (HEAD_ENV, [{"name": "REDIS_USERNAME", "value": "x"}], "ray_store_user"),
        (HEAD_ENV, [{"name": "RAY_enable_autoscaler_v2", "value": "1"}], "ray_autoscaler_version"),
        (f"{HEAD}.rayStartParams.redis-password", "x", "ray_store"),
        (f"{HEAD}.rayStartParams.labels", "a=b", "ray_group_labels"),
        (f"{HEAD}.headService", {"metadata": {"name": "x"}}, "ray_head_service_name"),
        (f"{HEAD}.resources", {"CPU": "1"}, "ray_group_resources"),
        (f"{HEAD}.template.spec.restartPolicy", "Always", "ray_restart_policy"),
        (f"{HEAD}.template.spec.containers", [], "ray_container"),
        ("metadata.annotations", {"ray.io/ft-enabled": "true"}, "ray_store"),
        (f"{WORKERS}.resources", {"GPU": "4"}, "ray_group_resources"),
        (f"{WORKERS}.template.spec.restartPolicy", "OnFailure", "ray_restart_policy"),
        (f"{WORKERS}.groupName", "A_B", "ray_group_name"),
        (f"{WORKERS}.minReplicas", 9, "ray_group_bounds"),
        (f"{WORKERS}.suspend", True, "ray_group_suspend"),
        (f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds", -1, "ray_autoscaler_idle"),
    ],
)
def test_a_service_that_kuberay_would_refuse_is_refused_offline(path: str, value: Any, code: str) -> None:
    assert code in [violation.code for violation in kuberay.violations(with_value(path, value))]
