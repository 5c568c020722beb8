"""One pass over one deployment: observe, decide, apply. The second in a row writes nothing.

What must stay true, whenever a pass is cut off and whoever runs the next one:
- nothing is created before our finalizer stands on the deployment;
- the gateway has a route only to clusters that have answered a real completion;
- nothing takes accelerators that were not granted before (`claims`);
- a cluster that goes, for whatever reason, loses its route first, and then has time to finish what it had;
- every write is either an apply, which may be repeated, or made for the version of the object that was seen.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
import structlog

from headrace_contracts.deployments import Deployment
from headrace_platform.control import telling
from headrace_platform.control.children import Children
from headrace_platform.control.claims import QUOTA_CODES, Claims
from headrace_platform.control.clusters import shape
from headrace_platform.control.conditions import View, conditions, findings, timestamp, unreadable
from headrace_platform.control.departure import FINALIZER, Departure
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.drift import digest, digest_of, stamped
from headrace_platform.control.environment import Environment
from headrace_platform.control.gateway_route import GatewayRoute
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import DEPLOYMENT_LABEL, ROLE_LABEL, Manifest
from headrace_platform.control.observation import Key, Observed, observe
from headrace_platform.control.probe import Answered
from headrace_platform.control.proofs import Proofs, cluster_of
from headrace_platform.control.ray_state import ray_state
from headrace_platform.control.render import render
from headrace_platform.control.replicas import Replicas
from headrace_platform.control.resource import DEPLOYMENTS, RAY_SERVICES
from headrace_platform.control.route import steered, table, weighted
from headrace_platform.control.status import Grants, Status
from headrace_platform.control.tenancy import tenant_violation
from headrace_platform.control.violation import Violation
from headrace_platform.control.workers import Workers, resource_names, workers

# Watches tell of most things at once; a completion that fails and a window that opens are told by nobody.
LOOK_AGAIN = timedelta(seconds=60)
LOOK_AGAIN_SOON = timedelta(seconds=5)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reconciler:
    api: KubernetesApi
    environment: Environment
    claims: Claims
    children: Children
    proofs: Proofs
    replicas: Replicas
    route: GatewayRoute
    departure: Departure
    now: Callable[[], datetime]
    namespaces: Sequence[str] = ()
    """Those that we look after; empty for all."""

    async def reconcile(self, key: Key) -> timedelta | None:
        """How soon to look again; None when there is nothing left to look at."""
        observed = await observe(self.api, key, self.environment, namespaces=self.namespaces)
        if observed is None or "deletionTimestamp" in observed.body["metadata"]:
            self.proofs.forget(key)
            self.replicas.forget(key)
        if observed is None:
            return None
        if "deletionTimestamp" in observed.body["metadata"]:
            return await self.departure.step(key, observed, self.now())
        if FINALIZER not in observed.body["metadata"].get("finalizers", []):
            finalizers = [*observed.body["metadata"].get("finalizers", []), FINALIZER]
            await self.api.change(DEPLOYMENTS, observed.body, {"metadata": {"finalizers": finalizers}})
            return timedelta()
        if observed.deployment is None:
            return await self._refuse(observed)
        return await _Pass(self, key, observed, observed.deployment).run()

    async def _refuse(self, observed: Observed) -> timedelta:
        """What can't be read can't be judged either; whatever it was before goes on."""
        generation = observed.body["metadata"].get("generation", 0)
        why = Violation("deployment_unreadable", "spec", observed.unreadable)
        told = unreadable(observed.conditions, why, generation=generation, now=self.now())
        if told != observed.conditions:
            patch = {"status": {"observedGeneration": generation, "conditions": msgspec.to_builtins(told)}}
            await self.api.change(DEPLOYMENTS, observed.body, patch, subresource="status")
        return LOOK_AGAIN


@dataclass
class _Pass:
    """What one pass has found out and done so far."""

    of: Reconciler
    key: Key
    observed: Observed
    deployment: ModelDeployment
    broken: list[Violation] = field(default_factory=list)
    body: Manifest = field(default_factory=dict)
    services: dict[str, Manifest] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    """Names of the RayServices that there should be."""
    lines: list[Deployment] = field(default_factory=list)
    """What the gateway has of it now."""
    probes: dict[str, Answered] = field(default_factory=dict)
    rest: timedelta = timedelta()
    """How long clusters that have lost their line are still left alone."""
    awaits_window: bool = False
    spec_hash: str = ""

    async def run(self) -> timedelta:
        self.body, self.services = self.observed.body, dict(self.observed.services)
        self.lines = self.observed.lines
        self.spec_hash = self.deployment.status.spec_hash
        self.broken = self._broken()
        suspended = False
        if not self.broken:
            self.body = await self.of.claims.claim(self.deployment, self.body)
            rendered = self._render()
            self.wanted = {m["metadata"]["name"] for m in rendered if m["kind"] == RAY_SERVICES.kind}
            await self._withdraw()
            suspended = self._may_suspend()
            # Until then it goes on as it was.
            if self.deployment.spec.suspend and not suspended:
                rendered = self._render(suspend=False)
            await self._apply(rendered)
            await self._publish()
        else:
            await self._prove(self.lines)
        await self._tell(suspended=suspended)
        return self._look_again()

    def _broken(self) -> list[Violation]:
        foreign = tenant_violation(self.deployment, self.observed.namespace_tenant)
        broken = self.of.claims.broken(self.deployment, self.body, self.observed.others)
        return [*([foreign] if foreign else []), *broken]

    def _granted(self, *, suspended: bool) -> Grants:
        """What it was granted is given back when nothing of it can be there any more."""
        if self.broken:
            return self.deployment.status.granted
        leaves = self.deployment.spec.suspend and not suspended
        lingers = any(
            name not in self.wanted or ray_state(service).is_changing
            for name, service in self.services.items()
        )
        return self.of.claims.granted(self.deployment, may_linger=leaves or lingers or self.awaits_window)

    def _render(self, *, suspend: bool | None = None) -> list[Manifest]:
        spec = self.deployment.spec
        spec = msgspec.structs.replace(
            spec,
            scaling=spec.scaling.at(self.of.now()),
            suspend=spec.suspend if suspend is None else suspend,
        )
        deployment = msgspec.structs.replace(self.deployment, spec=spec)
        return [stamped(manifest) for manifest in render(deployment, self.of.environment)]

    async def _withdraw(self) -> None:
        """Takes the lines of clusters that are to go away from the gateway."""
        stays = set() if self.deployment.spec.suspend else self.wanted
        left = [line for line in self.lines if cluster_of(line) in stays]
        now = self.of.now()
        if len(left) < len(self.lines):
            self.body = await self.of.route.withdraw(self.key, self.body, left, now)
            self.lines = left
            log.info("route_withdrawn", deployment=str(self.key), left=len(left))
        self.body = await self.of.route.mend_mark(self.body, now)
        self.rest = self.of.route.rest(self.body, self.deployment.spec.deletion_policy.drain_seconds, now)

    def _may_suspend(self) -> bool:
        return self.deployment.spec.suspend and self.rest <= timedelta()

    async def _apply(self, rendered: Sequence[Manifest]) -> None:
        live, children = self.observed.children, self.of.children
        applied = await children.apply(self.deployment, self.body, live, rendered)
        self.services |= applied.services
        self.awaits_window = applied.awaits_window
        self.spec_hash = digest([digest_of(manifest) for manifest in rendered])
        await children.prune(live, rendered, clusters_too=self.rest <= timedelta())

    async def _publish(self) -> None:
        """Gives the gateway a line for each cluster that has answered, and keeps those that it had.

        A line changes when the cluster has answered to the new one: until an upgrade has come to its end, what
        answers is what was there before. Its slots follow the replicas that there are at any time, and what the spec says
        of its requests holds at once: whoever takes an engine's traffic away does not wait for it to answer.
        """
        if self.deployment.spec.suspend:
            return
        ready = await self.of.replicas.of_clusters(
            self.key, (name for name, service in self.services.items() if ray_state(service).is_serving)
        )
        lines = table(self.deployment, self.of.environment, ready).deployments
        wanted = {cluster_of(line): line for line in lines}
        had = {cluster_of(line): steered(line, wanted[cluster_of(line)]) for line in self.lines}
        asked = {
            name: had[name] if name in had and self._is_changing(name) else line
            for name, line in wanted.items()
        }
        await self._prove(asked.values())
        published = [
            asked[name] if self._has_answered(name) else had[name]
            for name in wanted
            if name in had or self._has_answered(name)
        ]
        # Those that have no line yet have no part of it either.
        published = weighted(published, self.deployment.spec.routing.weight)
        if published != self.observed.lines or (published and self.observed.route is None):
            await self.of.route.publish(self.key, published)
            log.info("route_published", deployment=str(self.key), lines=len(published))
        self.lines = published

    def _is_changing(self, cluster: str) -> bool:
        return self.awaits_window or ray_state(self.services.get(cluster)).is_changing

    def _has_answered(self, cluster: str) -> bool:
        return cluster in self.probes and self.probes[cluster].is_good

    async def _prove(self, lines: Iterable[Deployment]) -> None:
        again = self.deployment.spec.scaling.scale_to_zero_after_seconds is None
        self.probes = await self.of.proofs.of_lines(self.key, lines, self.services, again=again)

    async def _tell(self, *, suspended: bool) -> None:
        before = self.deployment.status
        view = self._view(suspended=suspended)
        generation = self.body["metadata"]["generation"]
        told = conditions(findings(view), before.conditions, generation=generation, now=self.of.now())
        hosts = shape(self.deployment, self.of.environment).hosts if not self._is_refused() else 1
        status = Status(
            observed_generation=generation,
            conditions=told,
            replicas=view.workers.pods // hosts,
            ready_replicas=view.workers.ready // hosts,
            selector=f"{DEPLOYMENT_LABEL}={self.key.name},{ROLE_LABEL}=worker",
            accelerators=view.workers.accelerators,
            granted=self._granted(suspended=suspended),
            endpoint=self.lines[0].url if self.lines else "",
            spec_hash=self.spec_hash,
        )
        if status == before and self.body.get("status") == self.observed.body.get("status") is not None:
            return
        patch = {"status": msgspec.to_builtins(status)}
        await self.of.api.change(DEPLOYMENTS, self.body, patch, subresource="status")
        for event in telling.events(before.conditions, told):
            await self.of.api.post_event(
                self.body,
                kind=event.kind,
                reason=event.reason,
                message=event.message,
                at=timestamp(self.of.now()),
            )

    def _is_refused(self) -> bool:
        return any(violation.code not in QUOTA_CODES for violation in self.broken)

    def _view(self, *, suspended: bool) -> View:
        names: Sequence[str]
        if self.broken:
            names = sorted(self.observed.services)
        else:
            names = [cluster_of(line) for line in table(self.deployment, self.of.environment).deployments]
        quota = [violation.message for violation in self.broken if violation.code in QUOTA_CODES]
        return View(
            violations=[violation for violation in self.broken if violation.code not in QUOTA_CODES],
            quota_problem="; ".join(quota) or None,
            suspended=suspended,
            leaving=self.deployment.spec.suspend and not suspended,
            awaits_window=self.awaits_window,
            needs_source=self.deployment.spec.model.source is not None,
            workers=self._workers(),
            clusters={name: ray_state(self.services.get(name)) for name in names},
            probes=self.probes,
            routed=frozenset(cluster_of(line) for line in self.lines),
        )

    def _workers(self) -> Workers:
        return workers(self.observed.workers, resource_names(self.of.environment))

    def _look_again(self) -> timedelta:
        if self.rest > timedelta():
            return min(self.rest, LOOK_AGAIN)
        is_proven = all(answer.is_good for answer in self.probes.values())
        is_settled = is_proven and not self.of.replicas.are_settling(self.key)
        return LOOK_AGAIN if is_settled else LOOK_AGAIN_SOON
