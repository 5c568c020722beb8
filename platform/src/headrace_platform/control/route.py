"""The gateway's way to a deployment: one entry of a ConfigMap, holding the table with a line for each cluster.

It is apart from the other objects, for it is to be there only while the model answers: written when it first did,
taken away before anything else when the deployment goes. The ConfigMap is in the gateway's namespace and many
deployments', so each applies its own entry under a field manager of its own.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from headrace_contracts.deployments import Deployment, DeploymentTable
from headrace_platform.catalog import models
from headrace_platform.catalog.offer import offered
from headrace_platform.control.clusters import (
    Cluster,
    clusters,
    deployment_id,
    shares,
    upgrade_gateway_name,
)
from headrace_platform.control.deployment import ModelDeployment, UpgradeStrategy
from headrace_platform.control.environment import Environment
from headrace_platform.control.labels import Manifest
from headrace_platform.control.network_policy import METRICS_PORT, SERVE_PORT
from headrace_platform.control.routing import Lifecycle
from headrace_platform.control.serve_application import placement_of, slots

STEERING = (
    "slots",
    "wait_seconds",
    "weight",
    "projects",
    "overflow",
    "deprecated_at",
    "sunset_at",
)
"""Fields of a line that say which requests it is sent, and nothing of what its cluster runs."""


def render_route(deployment: ModelDeployment, environment: Environment) -> Manifest:
    """To be applied by server-side apply as its `field_manager`, which then owns this entry alone."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": environment.gateway.routes_config_map,
            "namespace": environment.gateway.pods.namespace,
        },
        "data": {
            entry(deployment.metadata.namespace, deployment.metadata.name): text(
                table(deployment, environment)
            )
        },
    }


def text(lines: DeploymentTable) -> str:
    """As the gateway reads it, without what is null: a field that the contract gains changes no entry by itself."""
    whole = msgspec.to_builtins(lines)
    whole["deployments"] = [
        {name: value for name, value in line.items() if value is not None} for line in whole["deployments"]
    ]
    return msgspec.json.encode(whole).decode()


def entry(namespace: str, name: str) -> str:
    """The key in the ConfigMap, a file's name in the gateway. Neither part can hold a dot."""
    return f"{namespace}.{name}.json"


def field_manager(namespace: str, name: str) -> str:
    """Of a deployment's own entry."""
    return f"headrace-{namespace}.{name}"


def table(
    deployment: ModelDeployment, environment: Environment, ready: Mapping[str, int] | None = None
) -> DeploymentTable:
    """`ready`: replicas that answer, by cluster, as far as they have been counted."""
    spec = deployment.spec
    ready = ready or {}
    record = models.find(spec.model.id)
    context_tokens = placement_of(deployment, environment).context_tokens
    lifecycle = spec.lifecycle or Lifecycle()
    whole = DeploymentTable(
        deployments=[
            Deployment(
                id=deployment_id(deployment, cluster),
                model=record.id,
                url=url(deployment, cluster, environment),
                engine_model=record.id,
                revision=spec.model.revision or record.revision,
                aliases=list(dict.fromkeys((*record.aliases, *spec.model.served_names))),
                context_tokens=context_tokens,
                tenant=spec.tenant_ref.org if spec.tenant_ref else None,
                slots=slots(deployment, cluster, environment, ready=ready.get(cluster.name)),
                wait_seconds=spec.routing.wait_seconds,
                projects=list(spec.routing.projects or ()),
                overflow=bool(spec.routing.overflow),
                deprecated_at=_seconds(lifecycle.deprecated_at),
                sunset_at=_seconds(lifecycle.sunset_at),
                salts_cache=True,
                **offered(record),
            )
            for cluster in clusters(deployment, environment)
        ]
    )
    return msgspec.structs.replace(whole, deployments=weighted(whole.deployments, spec.routing.weight))


def weighted(lines: Sequence[Deployment], weight: int | None) -> list[Deployment]:
    """With the deployment's weight divided among them: however many clusters it has, its share is the same. Where it
    says none each has one, as the more clusters can do more.
    """
    weights = [1] * len(lines) if weight is None else shares(weight, len(lines))
    return [msgspec.structs.replace(line, weight=share) for line, share in zip(lines, weights, strict=True)]


def steered(line: Deployment, by: Deployment) -> Deployment:
    """The line with the steering of another one of the same cluster. It holds at any time, and the rest when the cluster
    runs what it says.
    """
    return msgspec.structs.replace(line, **{name: getattr(by, name) for name in STEERING})


def url(deployment: ModelDeployment, cluster: Cluster, environment: Environment) -> str:
    namespace = deployment.metadata.namespace
    if deployment.spec.upgrade.strategy is UpgradeStrategy.INCREMENTAL:
        # The traffic's shares are KubeRay's Gateway to say; the services behind it come and go with clusters.
        assert environment.upgrade_gateway is not None, "an incremental upgrade was let through by the rules"
        return environment.upgrade_gateway.url.replace("{gateway}", upgrade_gateway_name(cluster)).replace(
            "{namespace}", namespace
        )
    return f"http://{cluster.name}-serve-svc.{namespace}.svc.{environment.cluster_domain}:{SERVE_PORT}"


def metrics_url(environment: Environment) -> str:
    """Of the head of a {cluster} in a {namespace}, which stay to be filled in."""
    return (
        f"http://{{cluster}}-head-svc.{{namespace}}.svc.{environment.cluster_domain}:{METRICS_PORT}/metrics"
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
