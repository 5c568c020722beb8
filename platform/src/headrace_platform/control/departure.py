"""The end of a deployment, in the order that loses nobody a request: route, drain, clusters, everything else, finalizer.

Each pass does what can be done now and says when to look again; what was done already is seen, not remembered.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import structlog

from headrace_platform.control.conditions import leaving, timestamp
from headrace_platform.control.deployment import DeletionPolicy
from headrace_platform.control.gateway_route import GatewayRoute
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import Key, Observed
from headrace_platform.control.resource import DEPLOYMENTS, HTTP_ROUTES, RAY_SERVICES, resource_of
from headrace_platform.control.status import Condition

FINALIZER = "headrace.dev/operator"

LOOK_AGAIN = timedelta(seconds=5)
# A node that is gone keeps its pods for ever: after that long nobody waits for them, and their accelerators' time
# goes on being counted until they are gone.
PODS_DEADLINE = timedelta(minutes=15)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Departure:
    api: KubernetesApi
    route: GatewayRoute
    close_gpu_time: Callable[[Key], Awaitable[None]]
    """Takes down what the deployment's pods held; called before it is let go."""

    async def step(self, key: Key, observed: Observed, now: datetime) -> timedelta | None:
        """How soon to look again; None when the deployment has been let go."""
        body = observed.body
        if FINALIZER not in body["metadata"].get("finalizers", []):
            return None
        if observed.route is not None:
            log.info("route_withdrawn", deployment=str(key))
            body = await self.route.withdraw(key, body, [], now)
        body = await self.route.mend_mark(body, now)
        body = await self._tell(body, observed.conditions, now)
        # A hostname that leads nowhere is no use either.
        await self._delete(observed.children, only=HTTP_ROUTES.kind)
        policy = observed.deployment.spec.deletion_policy if observed.deployment else DeletionPolicy()
        rest = self.route.rest(body, policy.drain_seconds, now)
        if rest > timedelta():
            return rest
        await self._delete(observed.children, only=RAY_SERVICES.kind)
        if observed.services or observed.pods:
            if now - _asked_at(body) < rest_of_all(policy, self.route.propagation):
                return LOOK_AGAIN
            await self._tell_of_pods(body, observed, now)
        await self._delete(observed.children)
        await self.close_gpu_time(key)
        left = [name for name in body["metadata"]["finalizers"] if name != FINALIZER]
        await self.api.change(DEPLOYMENTS, body, {"metadata": {"finalizers": left}})
        log.info("deployment_gone", deployment=str(key))
        return None

    async def _tell(self, body: Manifest, before: Sequence[Condition], now: datetime) -> Manifest:
        """That it does not serve any more; once."""
        told = leaving(before, generation=body["metadata"]["generation"], now=now)
        if told == tuple(before):
            return body
        patch = {"status": {"conditions": msgspec.to_builtins(told), "endpoint": ""}}
        return await self.api.change(DEPLOYMENTS, body, patch, subresource="status")

    async def _delete(
        self, children: Mapping[tuple[str, str, str], Manifest], only: str | None = None
    ) -> None:
        for child in children.values():
            if only in (None, child["kind"]) and "deletionTimestamp" not in child["metadata"]:
                await self.api.delete(resource_of(child), child)

    async def _tell_of_pods(self, body: Manifest, observed: Observed, now: datetime) -> None:
        left = [*observed.services, *(pod["metadata"]["name"] for pod in observed.pods)]
        message = f"still there, look at their nodes: {', '.join(left[:10])}"
        await self.api.post_event(
            body, kind="Warning", reason="NotAllGone", message=message, at=timestamp(now)
        )


def rest_of_all(policy: DeletionPolicy, propagation: timedelta) -> timedelta:
    """How long after the wish to delete the last pod must be gone."""
    return propagation + timedelta(seconds=policy.drain_seconds) + PODS_DEADLINE


def _asked_at(body: Manifest) -> datetime:
    return datetime.fromisoformat(body["metadata"]["deletionTimestamp"])
