"""A cluster with KubeRay and endpoints in it, a clock that a test moves, and operators that begin anew whenever asked."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from headrace_contracts.deployments import DeploymentTable, decode_table
from headrace_platform.control.children import Children
from headrace_platform.control.claims import Claims
from headrace_platform.control.crd import definition
from headrace_platform.control.departure import Departure
from headrace_platform.control.environment import Environment
from headrace_platform.control.gateway_route import GatewayRoute
from headrace_platform.control.gpu_time.meter import Billing, Meter
from headrace_platform.control.gpu_time.records import Records
from headrace_platform.control.kubernetes_api import Access, KubernetesApi
from headrace_platform.control.observation import Key
from headrace_platform.control.probe import Prober
from headrace_platform.control.proofs import Proofs
from headrace_platform.control.reconcile import Reconciler
from headrace_platform.control.replicas import Replicas
from headrace_platform.control.resource import CONFIG_MAPS
from tests.architecture.tree import ROOT
from tests.platform.control.examples import body, environment
from tests.platform.control.live.endpoints import Endpoints, serving_endpoints
from tests.support.kubernetes.api_server import ApiServer, serving
from tests.support.kubernetes.client import Kubectl, kubectl
from tests.support.kubernetes.kinds import Document, Kind
from tests.support.kubernetes.kuberay import KubeRay
from tests.support.kubernetes.store import Store

# Definitions of other projects, where they are at hand; without them their objects are taken as they come.
DEFINITIONS = ROOT.parent / "shared" / "crds"
FOREIGN = (
    Kind("ray.io", "v1", "rayservices", "RayService", has_status=True),
    Kind("ray.io", "v1", "rayclusters", "RayCluster", has_status=True),
    Kind("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor"),
    Kind("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
    Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", has_status=True),
)

# A Wednesday: within office hours, outside of the weekend's window for upgrades.
BEGINNING = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
PROPAGATION = timedelta(seconds=120)
DRAIN = timedelta(seconds=600)

ROUTES = "/api/v1/namespaces/headrace/configmaps/headrace-deployments"


@dataclass
class Clock:
    moment: datetime = BEGINNING

    def now(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by


class RealClock(Clock):
    """For operators that are processes of their own and can't be told the time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class Operator:
    """One life of an operator; what it remembers goes with it."""

    reconciler: Reconciler
    meter: Meter

    async def look(self, key: Key) -> timedelta | None:
        return await self.reconciler.reconcile(key)


@dataclass
class Ground:
    server: ApiServer
    kube: Kubectl
    ray: KubeRay
    endpoints: Endpoints
    clock: Clock
    stack: AsyncExitStack
    environment: Environment = field(
        default_factory=lambda: environment({"hostnames": {"acme": ["acme.example.com", "b.example.com"]}})
    )

    async def operator(
        self, *, billing: Billing | None = None, propagation: timedelta = PROPAGATION
    ) -> Operator:
        """A new one, that gives up where the API server does not answer."""
        api = await self.stack.enter_async_context(
            KubernetesApi(
                Access(self.server.url), "headrace-operator", backoff_seconds_min=0.001, attempts_max=3
            )
        )
        session = await self.stack.enter_async_context(aiohttp.ClientSession())
        meter = Meter(api, Records(api, "headrace"), self.environment, self.clock.now, (), billing)
        route = GatewayRoute(api, self.environment, propagation)
        reconciler = Reconciler(
            api,
            self.environment,
            Claims(api, self.environment),
            Children(api, self.clock.now),
            Proofs(Prober(session), self.clock.now, self.endpoints.template),
            Replicas(session, self.clock.now, self.endpoints.metrics_template),
            route,
            Departure(api, route, meter.close),
            self.clock.now,
        )
        return Operator(reconciler, meter)

    async def create(self, example: str, changes: dict[str, Any] | None = None, **metadata: Any) -> Key:
        """The example of this name, as its owner would create it."""
        document = body(example, changes)
        namespace = metadata.get("namespace", document["metadata"]["namespace"])
        document["metadata"] = {
            "name": document["metadata"]["name"],
            "annotations": {"example.com/owner": "somebody"},
            **metadata,
            "namespace": namespace,
        }
        return await self.create_whole(document)

    async def create_whole(self, document: Document) -> Key:
        key = Key(document["metadata"]["namespace"], document["metadata"]["name"])
        await self.kube.create(path_of(key).rpartition("/")[0], document)
        return key

    async def settle(self, operator: Operator, key: Key, passes_max: int = 30) -> timedelta | None:
        """Operator and KubeRay in turns until neither changes anything; when the operator wants to look again."""
        for _ in range(passes_max):
            writes = len(self.server.writes)
            again = await operator.look(key)
            changed = await self.ray.step()
            if not changed and len(self.server.writes) == writes:
                return again
        raise AssertionError("it does not come to rest")

    async def get(self, key: Key) -> Document:
        return await self.kube.get(path_of(key))

    async def conditions(self, key: Key) -> dict[str, tuple[str, str]]:
        status = (await self.get(key)).get("status", {})
        return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}

    async def conditions_of(self, kind: str, key: Key) -> tuple[str, str]:
        return (await self.conditions(key))[kind]

    async def is_ready(self, key: Key) -> bool:
        return (await self.conditions(key)).get("Ready") == ("True", "Serving")

    async def routes(self) -> dict[str, DeploymentTable]:
        gateway = self.environment.gateway
        answer = await self.kube.ask(
            "GET", CONFIG_MAPS.path(gateway.pods.namespace, gateway.routes_config_map)
        )
        entries = answer.document.get("data", {}) if answer.status == 200 else {}
        return {name: decode_table(text.encode()) for name, text in entries.items() if name.endswith(".json")}

    async def routed(self, key: Key) -> list[str]:
        """Clusters that the gateway knows of a deployment."""
        table = (await self.routes()).get(f"{key.namespace}.{key.name}.json")
        return [line.id.partition("/")[2] for line in table.deployments] if table else []

    async def events(self, key: Key) -> list[tuple[str, str]]:
        items = await self.kube.items(f"/api/v1/namespaces/{key.namespace}/events")
        return [
            (item["reason"], item["message"]) for item in items if item["involvedObject"]["name"] == key.name
        ]

    def state(self) -> Any:
        """Everything in the cluster but what no two runs have in common, and events, which may come twice."""
        found = []
        for kind in self.server.store.kinds:
            if kind.kind in ("Event", "CustomResourceDefinition"):
                continue
            found += [_comparable(document) for document in self.server.store.select(kind)]
        return found


def path_of(key: Key) -> str:
    return f"/apis/headrace.dev/v1alpha1/namespaces/{key.namespace}/modeldeployments/{key.name}"


def service_path(key: Key, cluster: str) -> str:
    return f"/apis/ray.io/v1/namespaces/{key.namespace}/rayservices/{cluster}"


@asynccontextmanager
async def ground(clock: Clock | None = None) -> AsyncIterator[Ground]:
    clock = clock or Clock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(ApiServer(Store(clock.now))))
        server.store.kinds += [_with_schema(kind) for kind in FOREIGN]
        kube = await stack.enter_async_context(kubectl(server.url))
        await kube.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition())
        for name, tenant in (("headrace", None), ("models", None), ("acme", "acme"), ("ingress", None)):
            labels = {"headrace.dev/tenant": tenant} if tenant else {}
            await kube.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        endpoints = await stack.enter_async_context(serving_endpoints())
        yield Ground(
            server, kube, KubeRay(kube.as_manager("ray-operator"), clock.now), endpoints, clock, stack
        )


def _with_schema(kind: Kind) -> Kind:
    file = DEFINITIONS / f"{kind.group}_{kind.plural}.yaml"
    return _read(kind, file)


@cache
def _read(kind: Kind, file: Path) -> Kind:
    if not file.exists():
        return kind
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    whole = yaml.load(file.read_text(), Loader=loader)  # noqa: S506 (both are safe)
    (schema,) = (
        version["schema"]["openAPIV3Schema"]
        for version in whole["spec"]["versions"]
        if version["name"] == kind.version
    )
    return Kind(kind.group, kind.version, kind.plural, kind.kind, has_status=kind.has_status, schema=schema)


# What tells a moment, and so is another in each run.
MOMENTS = frozenset(
    {"lastTransitionTime", "startTime", "startedAt", "finishedAt", "headrace.dev/withdrawn-at"}
)
OF_ONE_RUN = frozenset({"uid", "resourceVersion", "managedFields", "creationTimestamp"})


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items() if name not in MOMENTS | OF_ONE_RUN}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value
