"""The gateway's lines of one deployment: published when proven, withdrawn before anything else, and how long that takes.

A gateway says to nobody which table it has read. So a cluster that has lost its line is left alone for as long as
the ConfigMap takes to reach every gateway, and then for as long as its running requests may take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace_contracts.deployments import Deployment, DeploymentTable
from headrace_platform.control.conditions import timestamp
from headrace_platform.control.environment import Environment
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import Key
from headrace_platform.control.resource import CONFIG_MAPS, DEPLOYMENTS
from headrace_platform.control.route import entry, field_manager, text

WITHDRAWN_ANNOTATION = "headrace.dev/withdrawn-at"
"""Of a deployment: when its route last lost a line. Written before the line goes, so a crash in between waits too."""


PRESENT = {"README": "The operator writes these tables; gateways read them."}
"""In the ConfigMap whatever else is: to a pod one that is gone looks like one without entries, and a gateway takes that
for no reason to forget what it serves.
"""


@dataclass(frozen=True, slots=True)
class GatewayRoute:
    api: KubernetesApi
    environment: Environment
    propagation: timedelta

    async def publish(self, key: Key, lines: Sequence[Deployment]) -> None:
        """Makes the entry hold these lines, or none of them."""
        manifest: Manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.environment.gateway.routes_config_map,
                "namespace": self.environment.gateway.pods.namespace,
            },
        }
        await self.api.apply(CONFIG_MAPS, {**manifest, "data": PRESENT})
        if lines:
            held = text(DeploymentTable(deployments=list(lines)))
            manifest["data"] = {entry(key.namespace, key.name): held}
        await self.api.apply(CONFIG_MAPS, manifest, manager=field_manager(key.namespace, key.name))

    async def withdraw(self, key: Key, body: Manifest, left: Sequence[Deployment], now: datetime) -> Manifest:
        """Leaves only these lines; the deployment as it is then, marked with the time."""
        marked = await self._mark(body, now)
        await self.publish(key, left)
        return marked

    async def mend_mark(self, body: Manifest, now: datetime) -> Manifest:
        """Where somebody has edited the mark into no time, or one to come, it is as if the line were just gone."""
        mark = body["metadata"].get("annotations", {}).get(WITHDRAWN_ANNOTATION)
        moment = _moment(mark) if mark is not None else now
        return body if moment is not None and moment <= now else await self._mark(body, now)

    def rest(self, body: Manifest, drain_seconds: int, now: datetime) -> timedelta:
        """How long to leave a cluster alone that the route has no line for; zero or less: no longer."""
        mark = body["metadata"].get("annotations", {}).get(WITHDRAWN_ANNOTATION)
        withdrawn_at = _moment(mark) if mark is not None else None
        if withdrawn_at is None:
            return timedelta()
        return withdrawn_at + self.propagation + timedelta(seconds=drain_seconds) - now

    async def _mark(self, body: Manifest, now: datetime) -> Manifest:
        patch = {"metadata": {"annotations": {WITHDRAWN_ANNOTATION: timestamp(now)}}}
        return await self.api.change(DEPLOYMENTS, body, patch)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
