"""Who may talk to Ray's pods, and to whom they may talk; everything else is refused.

Ray runs any code that reaches it, so a cluster's own pods are the only ones that reach it everywhere. The gateway
and the operator come to Serve's port alone, KubeRay to those that it asks for health and deploys by.
"""

from typing import Any

from headrace_platform.control.clusters import clusters, upgrade_gateway_name
from headrace_platform.control.deployment import ModelDeployment, UpgradeStrategy
from headrace_platform.control.environment import Destination, Environment, Pods
from headrace_platform.control.labels import ROLE_LABEL, Manifest, metadata, pods_of

SERVE_PORT = 8000
DASHBOARD_PORT = 8265
AGENT_PORT = 52365
METRICS_PORT = 8080
DNS_PORT = 53

# What an implementation of the Gateway API puts on the pods that it runs for a Gateway.
GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"


def network_policies(deployment: ModelDeployment, environment: Environment) -> tuple[Manifest, ...]:
    """One for all of the deployment's pods, and one for what its heads need beyond."""
    name = deployment.metadata.name
    own = {"podSelector": pods_of(deployment)}
    ingress = [
        {"from": [own]},
        _from(environment.gateway.pods, SERVE_PORT),
        # The health of a worker's proxy, and whether the model answers before the gateway is told.
        _from(environment.kuberay, SERVE_PORT, AGENT_PORT),
        _from(environment.operator, SERVE_PORT),
    ]
    if environment.monitoring is not None:
        ingress.append(_from(environment.monitoring, METRICS_PORT))
    if deployment.spec.upgrade.strategy is UpgradeStrategy.INCREMENTAL:
        # Then KubeRay's own Gateways stand between, whose pods carry their name.
        ingress.append(
            {
                "from": [
                    {"podSelector": {"matchLabels": {GATEWAY_NAME_LABEL: upgrade_gateway_name(cluster)}}}
                    for cluster in clusters(deployment, environment)
                ],
                "ports": [{"protocol": "TCP", "port": SERVE_PORT}],
            }
        )
    egress = [
        {"to": [own]},
        {
            "to": [_peer(environment.dns)],
            "ports": [{"protocol": "UDP", "port": DNS_PORT}, {"protocol": "TCP", "port": DNS_PORT}],
        },
        _to(environment.billing.destination),
    ]
    source = deployment.spec.model.source
    if source is not None and (source.s3 or source.hf):
        egress += [_to(destination) for destination in environment.weights]
    return (
        _policy(deployment, f"{name}-pods", pods_of(deployment), ingress, egress),
        _policy(
            deployment,
            f"{name}-head",
            pods_of(deployment, **{ROLE_LABEL: "head"}),
            # How many replicas there are, which Serve's controller tells.
            [_from(environment.kuberay, DASHBOARD_PORT), _from(environment.operator, METRICS_PORT)],
            [_to(environment.gcs.destination), _to(environment.api_server)],
        ),
    )


def _policy(
    deployment: ModelDeployment,
    name: str,
    selector: dict[str, Any],
    ingress: list[dict[str, Any]],
    egress: list[dict[str, Any]],
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(deployment, name, "network"),
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _from(pods: Pods, *ports: int) -> dict[str, Any]:
    return {"from": [_peer(pods)], "ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _to(destination: Destination) -> dict[str, Any]:
    peers = [{"ipBlock": {"cidr": cidr}} for cidr in destination.cidrs]
    if destination.pods is not None:
        peers.append(_peer(destination.pods))
    return {"to": peers, "ports": [{"protocol": "TCP", "port": destination.port}]}


def _peer(pods: Pods) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": pods.namespace}},
        "podSelector": {"matchLabels": dict(pods.labels)},
    }
