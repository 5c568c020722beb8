"""Everything that one reconciliation looks at, read from the API server at its beginning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from headrace_contracts.deployments import Deployment, decode_table
from headrace_platform.control.deployment import DeploymentUnreadable, ModelDeployment, decode
from headrace_platform.control.environment import Environment
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import DEPLOYMENT_LABEL, NAMESPACE_LABEL, ROLE_LABEL, Manifest
from headrace_platform.control.resource import (
    BUDGETS,
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    HTTP_ROUTES,
    NAMESPACES,
    NETWORK_POLICIES,
    POD_MONITORS,
    PODS,
    PROMETHEUS_RULES,
    RAY_SERVICES,
    VOLUMES,
    Resource,
)
from headrace_platform.control.route import entry
from headrace_platform.control.status import Condition, Status
from headrace_platform.control.tenancy import org_of

TENANT_LABEL = "headrace.dev/tenant"
"""Of a namespace: the organisation whose deployments, and no others, may be in it."""

ChildId = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Key:
    """Which deployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Observed:
    body: Manifest
    deployment: ModelDeployment | None
    unreadable: str
    """Why it could not be read as a deployment; empty where it could."""
    namespace_tenant: str | None
    others: Sequence[Manifest]
    """The same tenant's other deployments."""
    children: Mapping[ChildId, Manifest]
    pods: Sequence[Manifest]
    route: str | None
    """The deployment's entry among the gateway's routes; None where it has none."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """As they were last told, also of a deployment that can't be read."""
        try:
            return msgspec.convert(self.body.get("status", {}), Status).conditions
        except msgspec.ValidationError:
            return ()

    @property
    def services(self) -> dict[str, Manifest]:
        return {name: child for (kind, _, name), child in self.children.items() if kind == RAY_SERVICES.kind}

    @property
    def lines(self) -> list[Deployment]:
        """The gateway's lines of this deployment."""
        try:
            return decode_table(self.route.encode()).deployments if self.route is not None else []
        except msgspec.MsgspecError:
            return []  # somebody's edit, over which ours is written again

    @property
    def workers(self) -> list[Manifest]:
        return [pod for pod in self.pods if pod["metadata"].get("labels", {}).get(ROLE_LABEL) == "worker"]


async def observe(
    api: KubernetesApi, key: Key, environment: Environment, *, namespaces: Sequence[str]
) -> Observed | None:
    """None where there is no such deployment. `namespaces` are those we look after; empty for all."""
    body = await api.get(DEPLOYMENTS, key.namespace, key.name)
    if body is None:
        return None
    unreadable, deployment = "", None
    try:
        deployment = decode(body)
    except DeploymentUnreadable as error:
        unreadable = str(error)
    own = {DEPLOYMENT_LABEL: key.name}
    routes = await api.get(
        CONFIG_MAPS, environment.gateway.pods.namespace, environment.gateway.routes_config_map
    )
    return Observed(
        body=body,
        deployment=deployment,
        unreadable=unreadable,
        namespace_tenant=await _tenant(api, key.namespace),
        others=await others(api, body, namespaces),
        children=await _children(api, key, environment),
        pods=await api.items(PODS, key.namespace, own),
        route=(routes or {}).get("data", {}).get(entry(key.namespace, key.name)),
    )


async def others(api: KubernetesApi, body: Manifest, namespaces: Sequence[str]) -> list[Manifest]:
    """The same tenant's deployments but this one. One that only claims to be the tenant's, from a namespace that is not
    its own, uses up nothing of it."""
    org, uid = org_of(body), body["metadata"]["uid"]
    found = [item for namespace in namespaces or ("",) for item in await api.items(DEPLOYMENTS, namespace)]
    same = [item for item in found if org_of(item) == org and item["metadata"]["uid"] != uid]
    places = {item["metadata"]["namespace"] for item in same}
    own = {place for place in places if await _tenant(api, place) == org}
    return [item for item in same if item["metadata"]["namespace"] in own]


async def _tenant(api: KubernetesApi, namespace: str) -> str | None:
    """Whose a namespace is."""
    found = await api.get(NAMESPACES, "", namespace) or {"metadata": {}}
    label: str | None = found["metadata"].get("labels", {}).get(TENANT_LABEL)
    return label


async def _children(api: KubernetesApi, key: Key, environment: Environment) -> dict[ChildId, Manifest]:
    """Of every kind that could have been rendered, also of one that no longer is."""
    own = {DEPLOYMENT_LABEL: key.name}
    elsewhere = {**own, NAMESPACE_LABEL: key.namespace}
    looked_at: list[tuple[Resource, str, dict[str, str]]] = [
        (RAY_SERVICES, key.namespace, own),
        (BUDGETS, key.namespace, own),
        (NETWORK_POLICIES, key.namespace, own),
    ]
    if environment.monitoring is not None:
        looked_at += [(POD_MONITORS, key.namespace, own), (PROMETHEUS_RULES, key.namespace, own)]
    if environment.gateway.parent_name is not None:
        looked_at.append((HTTP_ROUTES, environment.gateway.pods.namespace, elsewhere))
    if environment.host_paths:
        looked_at += [(VOLUMES, "", elsewhere), (CLAIMS, key.namespace, own)]
    found: dict[ChildId, Manifest] = {}
    for resource, namespace, labels in looked_at:
        for item in await api.items(resource, namespace, labels):
            found[child_id(item)] = item
    return found


def child_id(manifest: Manifest) -> ChildId:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]
