"""How many workers may be taken away at once; KubeRay makes no such budget itself."""

from headrace_platform.control.clusters import Cluster, Shape
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.labels import CLUSTER_LABEL, ROLE_LABEL, Manifest, metadata, pods_of


def disruption_budget(deployment: ModelDeployment, cluster: Cluster, shape: Shape) -> Manifest | None:
    """All replicas but one stay. None for a cluster of one replica, which would hold its node for ever.

    Its worker drains instead: Serve starts another replica elsewhere before this one goes. The pods have no
    controller that the budget knows, so only a whole number may be asked for, no share and no `maxUnavailable`.
    """
    if cluster.replicas_least < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(deployment, cluster.name, "disruption"),
        "spec": {
            "minAvailable": (cluster.replicas_least - 1) * shape.hosts,
            "selector": pods_of(deployment, **{CLUSTER_LABEL: cluster.name, ROLE_LABEL: "worker"}),
        },
    }
