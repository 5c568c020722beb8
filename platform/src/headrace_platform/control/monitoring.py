"""Where Prometheus finds the metrics: of Ray's pods themselves, for no Service leads to each worker."""

from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.labels import (
    CLUSTER_LABEL,
    DEPLOYMENT_LABEL,
    ROLE_LABEL,
    Manifest,
    metadata,
    pods_of,
)

SCRAPE_INTERVAL = "15s"


def pod_monitor(deployment: ModelDeployment) -> Manifest:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(deployment, deployment.metadata.name, "monitoring"),
        "spec": {
            "selector": pods_of(deployment),
            "podTargetLabels": [DEPLOYMENT_LABEL, CLUSTER_LABEL, ROLE_LABEL],
            "podMetricsEndpoints": [{"port": "metrics", "interval": SCRAPE_INTERVAL}],
        },
    }
