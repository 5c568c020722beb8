"""What every object of a deployment carries: whose it is, and which part."""

from typing import Any

from headrace_platform.control.clusters import Cluster
from headrace_platform.control.deployment import GROUP, KIND, VERSION, ModelDeployment

Manifest = dict[str, Any]

MANAGER = "headrace-operator"

DEPLOYMENT_LABEL = "headrace.dev/deployment"
CLUSTER_LABEL = "headrace.dev/cluster"
ROLE_LABEL = "headrace.dev/role"
NAMESPACE_LABEL = "headrace.dev/namespace"
"""For objects outside the deployment's namespace."""


def labels(deployment: ModelDeployment, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "headrace",
        "app.kubernetes.io/instance": deployment.metadata.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "headrace",
        "app.kubernetes.io/managed-by": MANAGER,
        DEPLOYMENT_LABEL: deployment.metadata.name,
    }


def pod_labels(deployment: ModelDeployment, cluster: Cluster, role: str) -> dict[str, str]:
    return {**labels(deployment, "engine"), CLUSTER_LABEL: cluster.name, ROLE_LABEL: role}


def pods_of(deployment: ModelDeployment, **more: str) -> dict[str, Any]:
    """A selector of a deployment's pods, in every cluster of it."""
    return {"matchLabels": {DEPLOYMENT_LABEL: deployment.metadata.name, **more}}


def metadata(deployment: ModelDeployment, name: str, component: str) -> dict[str, Any]:
    """Of an object in the deployment's namespace, which Kubernetes removes with the deployment."""
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": deployment.metadata.name,
        "uid": deployment.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": deployment.metadata.namespace,
        "labels": labels(deployment, component),
        # One that is only looked at, outside a cluster, has no identity that anything could refer to.
        **({"ownerReferences": [owner]} if deployment.metadata.uid else {}),
    }
