"""Where Prometheus finds the metrics, and what of them breaks a promise.

The metrics are those of Ray's pods themselves, for no Service leads to each worker; vLLM's are among them.
"""

import re
from typing import Any

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


# `headrace.dev/deployment`, as Prometheus writes it.
PROMETHEUS_LABEL = re.sub(r"[^a-zA-Z0-9]", "_", DEPLOYMENT_LABEL)

# So long an alert looks back, and so long it must hold: a promise of 95 of 100 requests is not broken by one minute.
WINDOW = "10m"


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


def latency_alerts(deployment: ModelDeployment) -> Manifest | None:
    """An alert for each latency that the deployment promises; None where it promises none."""
    slo = deployment.spec.slo
    alerts = [
        _alert(deployment, name, metric, milliseconds)
        for name, metric, milliseconds in (
            ("HeadraceFirstTokenSlow", "ray_vllm_time_to_first_token_seconds", slo.ttft_p95_milliseconds),
            ("HeadraceTokensSlow", "ray_vllm_inter_token_latency_seconds", slo.itl_p95_milliseconds),
        )
        if milliseconds is not None
    ]
    if not alerts:
        return None
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(deployment, deployment.metadata.name, "monitoring"),
        "spec": {"groups": [{"name": f"headrace.{deployment.metadata.name}", "rules": alerts}]},
    }


def _alert(deployment: ModelDeployment, name: str, metric: str, milliseconds: int) -> dict[str, Any]:
    where = f'namespace="{deployment.metadata.namespace}", {PROMETHEUS_LABEL}="{deployment.metadata.name}"'
    return {
        "alert": name,
        "expr": (
            f"1000 * histogram_quantile(0.95, sum by (le) (rate({metric}_bucket{{{where}}}[{WINDOW}])))"
            f" > {milliseconds}"
        ),
        "for": WINDOW,
        "labels": {"severity": "warning", "deployment": deployment.metadata.name},
        "annotations": {
            "summary": (
                f"{deployment.metadata.namespace}/{deployment.metadata.name} takes longer than the {milliseconds} ms"
                " that 95 of 100 requests were promised"
            )
        },
    }
