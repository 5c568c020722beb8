"""The pod templates of a cluster: Ray's head on a node without accelerators, and the workers.

Both hold to Kubernetes' restricted level. What is the same for all replicas of a cluster is here and nothing that
changes by itself: a changed template makes KubeRay build a whole second cluster.
"""

from collections.abc import Mapping
from typing import Any

from headrace_platform.control.clusters import Cluster, Shape
from headrace_platform.control.deployment import ModelDeployment, Tolerations
from headrace_platform.control.environment import Environment, GpuProfile
from headrace_platform.control.images import engine_image
from headrace_platform.control.labels import CLUSTER_LABEL, ROLE_LABEL, pod_labels, pods_of
from headrace_platform.control.network_policy import DASHBOARD_PORT, METRICS_PORT, SERVE_PORT
from headrace_platform.control.weights import (
    FOLDER,
    INIT_CPUS,
    INIT_MEMORY_GIB,
    VOLUME,
    Weights,
    weights,
)
from headrace_platform.serving.environment import QUIET

USER_ID = 1000

STATE_FOLDER = "/var/lib/headrace"
# Records of a few days that billing was away, and the engine's caches of compiled kernels.
STATE_SIZE_LIMIT = "32Gi"

GCS_PORT = 6379
CLIENT_PORT = 10001

# After the longest stream, for Ray's own end.
STOP_SECONDS = 60

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    # Hundreds of gigabytes of weights change their owner once, not at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


def head_template(deployment: ModelDeployment, cluster: Cluster, environment: Environment) -> dict[str, Any]:
    head = environment.head
    container = {
        "name": "ray-head",
        "image": engine_image(deployment, environment),
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "env": _variables(QUIET),
        "ports": [
            {"name": "gcs-server", "containerPort": GCS_PORT},
            {"name": "dashboard", "containerPort": DASHBOARD_PORT},
            {"name": "client", "containerPort": CLIENT_PORT},
            {"name": "serve", "containerPort": SERVE_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "resources": _resources(head.cpus, head.memory_gib),
    }
    return {
        "metadata": {
            "labels": pod_labels(deployment, cluster, "head"),
            # Its loss costs nothing but a minute without scaling; a move for the sake of packing costs as much.
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": {
            **_pod(environment),
            "restartPolicy": "Never",
            **_where(head.node_selector, head.tolerations, head.priority_class_name),
            "containers": [container],
        },
    }


def worker_template(
    deployment: ModelDeployment, cluster: Cluster, shape: Shape, environment: Environment
) -> dict[str, Any]:
    profile = environment.gpu_profiles[deployment.spec.accelerator.profile]
    prepared = weights(deployment, environment)
    scheduling = deployment.spec.scheduling
    spec: dict[str, Any] = {
        **_pod(environment),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # Longer than any answer: what a worker has begun when it must go, it may end.
        "terminationGracePeriodSeconds": environment.longest_stream_seconds + 2 * STOP_SECONDS,
        **_where(
            # The profile's word counts: whoever asks for one kind of node does not get another.
            {**scheduling.node_selector, **profile.node_selector},
            (*profile.tolerations, *scheduling.tolerations),
            scheduling.priority_class_name,
        ),
        "containers": [_worker(deployment, shape, profile, prepared, environment)],
        "volumes": [
            {
                "name": "shared-memory",
                "emptyDir": {"medium": "Memory", "sizeLimit": f"{profile.shared_memory_gib}Gi"},
            },
            {"name": "state", "emptyDir": {"sizeLimit": STATE_SIZE_LIMIT}},
        ],
    }
    if environment.service_account_name is not None:
        spec["serviceAccountName"] = environment.service_account_name
    if profile.runtime_class_name is not None:
        spec["runtimeClassName"] = profile.runtime_class_name
    if scheduling.spread_zones:
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": pods_of(deployment, **{CLUSTER_LABEL: cluster.name, ROLE_LABEL: "worker"}),
            }
        ]
    if prepared is not None:
        spec["volumes"].append({"name": VOLUME, **prepared.volume})
        if prepared.program is not None:
            spec["initContainers"] = [_preparation(deployment, prepared, environment)]
    return {"metadata": {"labels": pod_labels(deployment, cluster, "worker")}, "spec": spec}


def _worker(
    deployment: ModelDeployment,
    shape: Shape,
    profile: GpuProfile,
    prepared: Weights | None,
    environment: Environment,
) -> dict[str, Any]:
    token = environment.billing.ingest_token
    # A node without accelerators gives what it would give with one.
    share = max(1, shape.accelerators)
    resources = _resources(profile.cpus_per_accelerator * share, profile.memory_gib_per_accelerator * share)
    if profile.resource_name is not None and shape.accelerators:
        for side in resources.values():
            side[profile.resource_name] = str(shape.accelerators)
    return {
        "name": "ray-worker",
        "image": engine_image(deployment, environment),
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "env": [
            *_variables({**QUIET, "HF_HUB_OFFLINE": "1", "HEADRACE_ENGINE_STATE_DIR": STATE_FOLDER}),
            {
                "name": "HEADRACE_ENGINE_INGEST_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": token.name, "key": token.key}},
            },
        ],
        "ports": [
            {"name": "serve", "containerPort": SERVE_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "resources": resources,
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108  (where every library looks)
            {"name": "state", "mountPath": STATE_FOLDER},
            *([{"name": VOLUME, "mountPath": FOLDER, "readOnly": True}] if prepared else []),
        ],
        "lifecycle": {
            "preStop": {
                "exec": {
                    "command": [
                        "python",
                        "-m",
                        "headrace_platform.serving.draining",
                        "--seconds",
                        str(environment.longest_stream_seconds + STOP_SECONDS),
                    ]
                }
            }
        },
    }


def _preparation(deployment: ModelDeployment, prepared: Weights, environment: Environment) -> dict[str, Any]:
    return {
        "name": "weights",
        "image": engine_image(deployment, environment),
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "command": list(prepared.program or ()),
        "env": [*_variables(QUIET), *prepared.variables],
        "resources": _resources(INIT_CPUS, INIT_MEMORY_GIB),
        "volumeMounts": [{"name": VOLUME, "mountPath": FOLDER, "readOnly": not prepared.writable}],
    }


def _pod(environment: Environment) -> dict[str, Any]:
    secrets = [{"name": name} for name in environment.pull_secrets]
    return {
        "securityContext": POD_SECURITY,
        "enableServiceLinks": False,
        **({"imagePullSecrets": secrets} if secrets else {}),
    }


def _where(
    node_selector: dict[str, str], tolerations: Tolerations, priority_class_name: str | None
) -> dict[str, Any]:
    where: dict[str, Any] = {}
    if node_selector:
        where["nodeSelector"] = dict(sorted(node_selector.items()))
    if tolerations:
        where["tolerations"] = [
            {
                "key": toleration.key,
                "operator": str(toleration.operator),
                **({"value": toleration.value} if toleration.value is not None else {}),
                **({"effect": str(toleration.effect)} if toleration.effect is not None else {}),
            }
            for toleration in tolerations
        ]
    if priority_class_name is not None:
        where["priorityClassName"] = priority_class_name
    return where


def _resources(cpus: int, memory_gib: int) -> dict[str, dict[str, str]]:
    """Asked for and bounded alike: a neighbour takes nothing away, and memory is never promised twice."""
    return {side: {"cpu": str(cpus), "memory": f"{memory_gib}Gi"} for side in ("requests", "limits")}


def _variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
