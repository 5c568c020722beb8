"""One Ray cluster of a deployment, as KubeRay 1.7 takes it."""

from typing import Any

import yaml

from headrace_platform.control.clusters import Cluster, Shape
from headrace_platform.control.deployment import ModelDeployment, Upgrade, UpgradeStrategy
from headrace_platform.control.environment import Environment
from headrace_platform.control.labels import Manifest, metadata
from headrace_platform.control.pods import CONTAINER_SECURITY, STOP_SECONDS, head_template, worker_template
from headrace_platform.control.serve_application import serve_config

# How long an idle worker is kept: Serve has decided already, and waited before it did.
IDLE_SECONDS = 60
AUTOSCALER_RESOURCES = {"cpu": "500m", "memory": "1Gi"}

KUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def ray_service(
    deployment: ModelDeployment, cluster: Cluster, shape: Shape, environment: Environment
) -> Manifest:
    meta = metadata(deployment, cluster.name, "engine")
    if deployment.spec.scheduling.queue is not None:
        meta["labels"][KUEUE_LABEL] = deployment.spec.scheduling.queue
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": meta,
        "spec": {
            "suspend": deployment.spec.suspend,
            # The old cluster of an upgrade goes when its longest stream has ended.
            "rayClusterDeletionDelaySeconds": environment.longest_stream_seconds + STOP_SECONDS,
            # The head has no replica and should carry no traffic.
            "excludeHeadPodFromServeSvc": True,
            "upgradeStrategy": upgrade_strategy(deployment.spec.upgrade, environment),
            "serveConfigV2": yaml.safe_dump(serve_config(deployment, cluster, environment), sort_keys=False),
            "rayClusterConfig": ray_cluster(deployment, cluster, shape, environment),
        },
    }


def upgrade_strategy(upgrade: Upgrade, environment: Environment) -> dict[str, Any]:
    if upgrade.strategy is not UpgradeStrategy.INCREMENTAL:
        return {"type": str(upgrade.strategy)}
    assert environment.upgrade_gateway is not None, "an incremental upgrade was let through by the rules"
    return {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": {
            "gatewayClassName": environment.upgrade_gateway.class_name,
            "maxSurgePercent": upgrade.surge_percent,
            "stepSizePercent": upgrade.step_percent,
            "intervalSeconds": upgrade.interval_seconds,
        },
    }


def ray_cluster(
    deployment: ModelDeployment, cluster: Cluster, shape: Shape, environment: Environment
) -> dict[str, Any]:
    gcs = environment.gcs
    return {
        "rayVersion": deployment.spec.engine.ray_version,
        # Whoever reaches Ray can run code in it: every call shows a token, which KubeRay makes for each cluster.
        "authOptions": {"mode": "token"},
        # Serve asks for replicas, Ray's autoscaler for pods, the cluster's for nodes: one loop a layer.
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": IDLE_SECONDS,
            "securityContext": CONTAINER_SECURITY,
            "resources": {"requests": AUTOSCALER_RESOURCES, "limits": AUTOSCALER_RESOURCES},
        },
        # No namespace in it is named: old and new cluster of an upgrade must not share one.
        "gcsFaultToleranceOptions": {
            "redisAddress": gcs.address,
            "redisPassword": {
                "valueFrom": {"secretKeyRef": {"name": gcs.password.name, "key": gcs.password.key}}
            },
        },
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"},  # noqa: S104
            "template": head_template(deployment, cluster, environment),
        },
        "workerGroupSpecs": [
            {
                "groupName": deployment.spec.accelerator.profile,
                "minReplicas": 0,
                "maxReplicas": cluster.replicas_most,
                "numOfHosts": shape.hosts,
                "rayStartParams": {"num-gpus": str(shape.accelerators)},
                "template": worker_template(deployment, cluster, shape, environment),
            }
        ],
    }
