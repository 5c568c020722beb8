"""The rendered objects in the cluster: made as they should be, mended, and deleted when they are not wanted any more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from headrace_platform.control.conditions import timestamp
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.drift import digest_of, drift, needs_new_cluster
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import ChildId, child_id
from headrace_platform.control.resource import RAY_SERVICES, resource_of

PATHS_TOLD_MAX = 5

log = structlog.get_logger()


@dataclass
class Applied:
    """What came of it."""

    services: dict[str, Manifest] = field(default_factory=dict)
    """RayServices that were written, as they are now."""
    awaits_window: bool = False
    """Some change was held back, for it needs a new cluster."""


@dataclass(frozen=True, slots=True)
class Children:
    api: KubernetesApi
    now: Callable[[], datetime]

    async def apply(
        self,
        deployment: ModelDeployment,
        body: Manifest,
        live: Mapping[ChildId, Manifest],
        rendered: Sequence[Manifest],
    ) -> Applied:
        result = Applied()
        for manifest in rendered:
            known = live.get(child_id(manifest))
            differences = drift(known, manifest)
            if not differences:
                continue
            if known is not None and self._is_held_back(deployment, known, manifest):
                result.awaits_window = True
                continue
            applied = await self._write(manifest)
            if manifest["kind"] == RAY_SERVICES.kind:
                result.services[manifest["metadata"]["name"]] = applied
            if known is not None and digest_of(known) == digest_of(manifest):
                await self._tell_of_drift(body, manifest, differences)
        return result

    async def prune(
        self, live: Mapping[ChildId, Manifest], rendered: Sequence[Manifest], *, clusters_too: bool
    ) -> None:
        """Deletes what isn't rendered any more; clusters only when they have been left alone long enough."""
        wanted = {child_id(manifest) for manifest in rendered}
        for identity, child in live.items():
            is_cluster = child["kind"] == RAY_SERVICES.kind
            if (
                identity in wanted
                or "deletionTimestamp" in child["metadata"]
                or (is_cluster and not clusters_too)
            ):
                continue
            await self.api.delete(resource_of(child), child)

    def _is_held_back(self, deployment: ModelDeployment, live: Manifest, manifest: Manifest) -> bool:
        window = deployment.spec.upgrade.window
        return (
            manifest["kind"] == RAY_SERVICES.kind
            and window is not None
            and not window.contains(self.now())
            and needs_new_cluster(live, manifest)
        )

    async def _write(self, manifest: Manifest) -> Manifest:
        applied = await self.api.apply(resource_of(manifest), manifest)
        if drift(applied, manifest):
            # What somebody added to a list of named items, a container or a variable, an apply leaves to them.
            applied = await self.api.change(resource_of(manifest), applied, {"spec": manifest["spec"]})
        return applied

    async def _tell_of_drift(self, body: Manifest, manifest: Manifest, differences: Sequence[str]) -> None:
        what, paths = f"{manifest['kind']} {manifest['metadata']['name']}", differences[:PATHS_TOLD_MAX]
        log.warning("drift_repaired", object=what, namespace=body["metadata"]["namespace"], paths=paths)
        message = f"{what} had been changed by someone else and is as it was: {', '.join(paths)}"
        at = timestamp(self.now())
        await self.api.post_event(body, kind="Warning", reason="DriftRepaired", message=message, at=at)
