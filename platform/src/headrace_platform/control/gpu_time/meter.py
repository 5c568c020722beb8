"""Looking at pods, recording what they hold, and sending what is whole to billing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from headrace_contracts.gpu_time import EVENTS_MAX, GpuTimeEvent
from headrace_platform.control.deployment import DeploymentUnreadable, ModelDeployment, decode
from headrace_platform.control.environment import Environment
from headrace_platform.control.gpu_time.held import (
    Held,
    Holder,
    due,
    is_done,
    microseconds,
    observed,
    seen_ending,
    sent,
)
from headrace_platform.control.gpu_time.records import Record, Records, RecordUnreadable
from headrace_platform.control.kubernetes_api import ApiRefused, KubernetesApi
from headrace_platform.control.labels import CLUSTER_LABEL, DEPLOYMENT_LABEL, Manifest
from headrace_platform.control.observation import Key
from headrace_platform.control.resource import DEPLOYMENTS, PODS
from headrace_platform.control.workers import resource_names

# Of an operator that waits for its turn and looks at nothing; what is forgotten is counted until it was last seen.
LAST_WORDS_MAX = 5000

log = structlog.get_logger()


class Undelivered(Exception):
    """Billing can't be reached or can't take events now; they are sent again."""


class Billing(Protocol):
    async def send(self, events: Sequence[GpuTimeEvent]) -> None:
        """Returns once billing has them, whatever it thinks of each. Raises `Undelivered`."""


@dataclass
class Meter:
    api: KubernetesApi
    records: Records
    environment: Environment
    now: Callable[[], datetime]
    namespaces: Sequence[str] = ()
    billing: Billing | None = None
    _last_words: dict[str, Manifest] = field(default_factory=dict)
    """Pods that were deleted since the last look, by their uid."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def saw_deleted(self, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        self._last_words[uid] = {"metadata": {"uid": uid}, "status": pod.get("status", {})}
        while len(self._last_words) > LAST_WORDS_MAX:
            del self._last_words[next(iter(self._last_words))]

    async def observe(self) -> None:
        """One look at all pods."""
        async with self._lock:
            now_us = microseconds(self.now())
            pods = await self._pods()
            records = await self.records.all()
            # After the list: who is not in it has said its last word by now, or soon will.
            words, failed = dict(self._last_words), False
            for key in pods.keys() | records.keys():
                record = records.get(key) or Record(key, {}, None)
                failed |= not await self._each(key, self._observe(key, pods.get(key, []), record, now_us))
            if not failed:
                for pod in words:
                    self._last_words.pop(pod, None)

    async def close(self, key: Key) -> None:
        """A look at the pods of one deployment, which is about to go."""
        async with self._lock:
            now_us = microseconds(self.now())
            pods = await self.api.items(PODS, key.namespace, {DEPLOYMENT_LABEL: key.name})
            try:
                record = await self.records.of(key)
            except RecordUnreadable as error:
                log.error("gpu_time_not_closed", deployment=str(key), why=str(error))  # noqa: TRY400 (no trace of interest)
                return
            await self._observe(key, pods, record, now_us)

    async def ship(self) -> None:
        """Sends what is due, and forgets what is done."""
        if self.billing is None:
            return
        async with self._lock:
            now_us = microseconds(self.now())
            for key, record in (await self.records.all()).items():
                await self._each(key, self._ship(self.billing, record, now_us))

    async def _ship(self, billing: Billing, record: Record, now_us: int) -> None:
        events = [event for held in record.held.values() for event in due(held, now_us)]
        for start in range(0, len(events), EVENTS_MAX):
            await billing.send(events[start : start + EVENTS_MAX])
        await self.records.keep(record, _without_done(record, events))

    async def _each(self, key: Key, work: Awaitable[None]) -> bool:
        """Whether it was done: what the API server refuses of one deployment holds up no other."""
        try:
            await work
        except ApiRefused as refusal:
            log.error("gpu_time_refused", deployment=str(key), why=str(refusal))  # noqa: TRY400 (no trace of interest)
            return False
        return True

    async def _observe(self, key: Key, pods: Sequence[Manifest], record: Record, now_us: int) -> None:
        held = record.held
        for pod in self._last_words.values():
            held = seen_ending(held, pod)
        deployment = await self._deployment(key) if pods else None
        held_by = [(pod, holder) for pod in pods if (holder := self._holder(key, pod, deployment, held))]
        await self.records.keep(record, observed(held, held_by, now_us))

    async def _pods(self) -> dict[Key, list[Manifest]]:
        found: dict[Key, list[Manifest]] = {}
        for namespace in self.namespaces or ("",):
            for pod in await self.api.items(PODS, namespace, {DEPLOYMENT_LABEL: None}):
                metadata = pod["metadata"]
                key = Key(metadata["namespace"], metadata["labels"][DEPLOYMENT_LABEL])
                found.setdefault(key, []).append(pod)
        return found

    async def _deployment(self, key: Key) -> ModelDeployment | None:
        body = await self.api.get(DEPLOYMENTS, key.namespace, key.name)
        try:
            return decode(body) if body is not None else None
        except DeploymentUnreadable:
            return None

    def _holder(
        self, key: Key, pod: Manifest, deployment: ModelDeployment | None, held: Mapping[str, Held]
    ) -> Holder | None:
        """None for a pod of nobody: it has our label, and there is neither a deployment nor a record of it."""
        metadata = pod["metadata"]
        names = resource_names(self.environment)
        known = held.get(metadata["uid"])
        if known is not None:
            return Holder(known.org, known.deployment, known.cluster, known.model, known.profile, names)
        if deployment is None:
            log.error("gpu_time_of_nobody", pod=metadata["name"], namespace=key.namespace)
            return None
        spec = deployment.spec
        return Holder(
            org=spec.tenant_ref.org if spec.tenant_ref else None,
            deployment=str(key),
            cluster=f"{key.namespace}/{metadata['labels'].get(CLUSTER_LABEL, key.name)}",
            model=spec.model.id,
            profile=spec.accelerator.profile,
            resource_names=names,
        )


def _without_done(record: Record, events: Sequence[GpuTimeEvent]) -> dict[str, Held]:
    by_pod: dict[str, list[GpuTimeEvent]] = {}
    for event in events:
        by_pod.setdefault(event.pod, []).append(event)
    after = {pod: sent(held, by_pod.get(pod, [])) for pod, held in record.held.items()}
    return {pod: held for pod, held in after.items() if not is_done(held)}
