"""Who of several operators works: the holder of a Lease, as client-go's controllers do it.

kopf's own peering would need a kind of its own and would pause kopf's handlers alone. The lease keeps two operators
from doing everything twice; that they do no harm to each other when both believe to hold it, for as long as their
clocks differ, is the reconciliation's own doing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from headrace_platform.control.kubernetes_api import ApiRefused, ApiUnavailable, Conflict, KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.resource import LEASES

LEASE_NAME = "headrace-operator"
# Longer than a slow API server takes to answer; no pod waits longer than this for a dead holder.
DURATION = timedelta(seconds=30)
RENEW = timedelta(seconds=10)
# How soon somebody who waits sees that it was given up.
RETRY = timedelta(seconds=2)
# Of a pod's last thirty: to leave in time is worth more than to spare the next one its wait.
RELEASE_SECONDS_MAX = 5.0

log = structlog.get_logger()


@dataclass
class Leader:
    api: KubernetesApi
    namespace: str
    identity: str
    now: Callable[[], datetime]
    _holds_until: datetime | None = field(default=None, init=False)
    _seen: tuple[str, datetime] | None = field(default=None, init=False)
    """The lease's last version, and when by our own clock it was first seen: the holder's clock may be wrong."""

    def is_leading(self) -> bool:
        return self._holds_until is not None and self.now() < self._holds_until

    async def keep(self) -> None:
        """Takes and renews the lease until cancelled."""
        while True:
            try:
                await self.step()
            except (ApiRefused, ApiUnavailable) as error:
                log.warning("lease_not_renewed", why=str(error))
            await asyncio.sleep((RENEW if self.is_leading() else RETRY).total_seconds())

    async def step(self) -> None:
        was_leading, asked_at = self.is_leading(), self.now()
        lease = await self.api.get(LEASES, self.namespace, LEASE_NAME)
        if lease is not None and not self._may_take(lease):
            self._holds_until = None
            return
        try:
            await self._write(lease, asked_at)
        except Conflict:
            self._holds_until = None
            return
        # From before we asked: the others count from when they saw it.
        self._holds_until = asked_at + DURATION
        if not was_leading:
            log.info("leading", identity=self.identity)

    async def release(self) -> None:
        """At a clean end the next one need not wait; where the API server does not answer, it waits after all."""
        if not self.is_leading():
            return
        self._holds_until = None
        try:
            async with asyncio.timeout(RELEASE_SECONDS_MAX):
                await self._give_up()
        except (ApiRefused, ApiUnavailable, TimeoutError) as error:
            log.warning("lease_not_released", why=str(error))

    async def _give_up(self) -> None:
        lease = await self.api.get(LEASES, self.namespace, LEASE_NAME)
        if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
            await self.api.change(LEASES, lease, {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})

    def _may_take(self, lease: Manifest) -> bool:
        spec = lease["spec"]
        if spec.get("holderIdentity") in ("", None, self.identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self.now())
        return self.now() - self._seen[1] > timedelta(seconds=spec.get("leaseDurationSeconds", 0))

    async def _write(self, lease: Manifest | None, at: datetime) -> None:
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(DURATION.total_seconds()),
            "renewTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if lease is None:
            manifest = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": LEASE_NAME, "namespace": self.namespace},
                "spec": spec,
            }
            await self.api.create(LEASES, manifest)
        else:
            await self.api.change(LEASES, lease, {"spec": spec})
