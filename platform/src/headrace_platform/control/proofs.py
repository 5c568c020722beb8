"""Which clusters have answered a completion, and when they are asked again. In memory: a new operator asks anew."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from headrace_contracts.deployments import Deployment
from headrace_platform.control.drift import digest_of
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import Key
from headrace_platform.control.probe import Answered
from headrace_platform.control.ray_state import ray_state

# One token a minute of each deployment tells a dead engine that Serve holds for alive.
PROBE_INTERVAL = timedelta(seconds=60)
# A new cluster is asked until it answers; its first answers may be refusals.
RETRY_INTERVAL = timedelta(seconds=5)


class Asks(Protocol):
    async def probe(self, url: str, engine_model: str) -> Answered: ...


@dataclass(frozen=True, slots=True)
class Proof:
    subject: str
    """What was asked: the cluster behind the address, and the spec that it runs."""
    at: datetime
    answered: Answered


@dataclass
class Proofs:
    prober: Asks
    now: Callable[[], datetime]
    endpoint_url: str | None = None
    """Where {cluster} in {namespace} is asked; the gateway's own address of it where absent."""
    interval: timedelta = PROBE_INTERVAL
    retry_interval: timedelta = RETRY_INTERVAL
    _known: dict[tuple[Key, str], Proof] = field(default_factory=dict)

    async def of_lines(
        self, key: Key, lines: Iterable[Deployment], services: Mapping[str, Manifest], *, again: bool
    ) -> dict[str, Answered]:
        """Of every cluster that serves, asked all at once: one that does not answer takes a minute to say so.

        Without `again` one that has answered is not asked any more: where no request means no replica, a question
        would be one.
        """
        serving = [line for line in lines if ray_state(services.get(cluster_of(line))).is_serving]
        answers = await asyncio.gather(
            *(self._of_line(key, line, services[cluster_of(line)], again=again) for line in serving)
        )
        return {cluster_of(line): answer for line, answer in zip(serving, answers, strict=True)}

    async def _of_line(self, key: Key, line: Deployment, service: Manifest, *, again: bool) -> Answered:
        cluster, url = cluster_of(line), line.url
        if self.endpoint_url is not None:
            url = self.endpoint_url.format(cluster=cluster, namespace=key.namespace)
        subject = f"{ray_state(service).active} {digest_of(service)} {line.engine_model}"
        known = self._known.get((key, cluster))
        if known is not None and known.subject == subject:
            age = self.now() - known.at
            if age < self.retry_interval or (known.answered.is_good and (not again or age < self.interval)):
                return known.answered
        answered = await self.prober.probe(url, line.engine_model)
        self._known[key, cluster] = Proof(subject, self.now(), answered)
        return answered

    def forget(self, key: Key) -> None:
        for known in [known for known in self._known if known[0] == key]:
            del self._known[known]


def cluster_of(line: Deployment) -> str:
    """The RayService behind a line: its id is `<namespace>/<cluster>`."""
    return line.id.partition("/")[2]
