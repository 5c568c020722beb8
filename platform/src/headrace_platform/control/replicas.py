"""How many replicas of each cluster answer, by Serve's own gauge, at a pace that the gateways can follow.

A pod's readiness does not tell: its proxy is ready as soon as any replica answers, and its own one may have to load
weights for minutes yet. A question to the model would tell, and wake one that has gone down to no replica.

In memory: a new operator counts anew. What must stay true: a count that can't be had is no zero.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
import structlog

from headrace_platform.catalog.serve import APPLICATION, DEPLOYMENT
from headrace_platform.control.observation import Key

# Replicas come in minutes, and whatever changes of their pods has us look at once.
COUNT_INTERVAL = timedelta(seconds=5)
# A replica that is replaced or loses a health check is back by then, or it is gone.
FEWER_AFTER = timedelta(seconds=30)
TIMEOUT_SECONDS = 5.0
# Ray tells some hundred kilobytes of itself, and more with each node.
ANSWER_BYTES_MAX = 16 * 2**20

_HEALTHY = re.compile(rb"^ray_serve_deployment_replica_healthy\{([^}\n]*)\} ([0-9.eE+]+)$", re.MULTILINE)
_OURS = (f'application="{APPLICATION}"'.encode(), f'deployment="{DEPLOYMENT}"'.encode())

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    at: datetime
    count: int
    """As the gateways are told."""
    fewer_since: datetime | None = None
    """Since when there have been fewer without a break."""


@dataclass
class Replicas:
    session: aiohttp.ClientSession
    now: Callable[[], datetime]
    metrics_url: str
    """Of the head of a {cluster} in a {namespace}."""
    _seen: dict[tuple[Key, str], Seen] = field(default_factory=dict)

    async def of_clusters(self, key: Key, clusters: Iterable[str]) -> dict[str, int]:
        """By cluster; those of which nothing is known are left out."""
        names = list(clusters)
        counts = await asyncio.gather(*(self._of_cluster(key, name) for name in names))
        return {name: count for name, count in zip(names, counts, strict=True) if count is not None}

    def are_settling(self, key: Key) -> bool:
        """Whether a lower count waits to be believed."""
        return any(seen.fewer_since is not None for (of, _), seen in self._seen.items() if of == key)

    def forget(self, key: Key) -> None:
        for known in [known for known in self._seen if known[0] == key]:
            del self._seen[known]

    async def _of_cluster(self, key: Key, cluster: str) -> int | None:
        seen, now = self._seen.get((key, cluster)), self.now()
        if seen is not None and now - seen.at < COUNT_INTERVAL:
            return seen.count
        url = self.metrics_url.format(cluster=cluster, namespace=key.namespace)
        try:
            counted = healthy_in(await self._asked(url))
        except (aiohttp.ClientError, TimeoutError) as error:
            log.info("replicas_not_counted", deployment=str(key), cluster=cluster, why=type(error).__name__)
            counted = None
        if counted is None:
            # A head that is away takes no replica with it.
            return None if seen is None else seen.count
        self._seen[key, cluster] = after(seen, counted, now)
        return self._seen[key, cluster].count

    async def _asked(self, url: str) -> bytes:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with self.session.get(url, timeout=timeout, raise_for_status=True) as response:
            text = bytearray()
            async for piece in response.content.iter_any():
                text += piece
                if len(text) > ANSWER_BYTES_MAX:
                    raise aiohttp.ClientPayloadError("too much to be metrics")
        return bytes(text)


def healthy_in(metrics: bytes) -> int | None:
    """Replicas that have started and pass their health checks; null where Serve tells none, nor that there are none.

    A series is a replica, 1 or 0, or all of them, as Ray is set.
    """
    values = [
        float(value)
        for labels, value in _HEALTHY.findall(metrics)
        if all(label in labels.split(b",") for label in _OURS)
    ]
    return round(sum(values)) if values else None


def after(seen: Seen | None, counted: int, now: datetime) -> Seen:
    """More count at once, fewer when it has lasted."""
    if seen is None or counted >= seen.count:
        return Seen(now, counted)
    since = seen.fewer_since or now
    if now - since >= FEWER_AFTER:
        return Seen(now, counted)
    return Seen(now, seen.count, since)
