"""What a deployment's cluster is called outside Kubernetes."""

from headrace_platform.control.clusters import Cluster
from headrace_platform.control.deployment import ModelDeployment


def deployment_id(deployment: ModelDeployment, cluster: Cluster) -> str:
    """One name in the gateway's events and the engine's records."""
    return f"{deployment.metadata.namespace}/{cluster.name}"
