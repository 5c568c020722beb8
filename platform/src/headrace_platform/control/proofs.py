"""Which clusters have answered a completion, and when they are asked again. In memory: a new operator asks anew."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from headrace_platform.control.observation import Key
from headrace_platform.control.probe import Answered

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
    interval: timedelta = PROBE_INTERVAL
    retry_interval: timedelta = RETRY_INTERVAL
    _known: dict[tuple[Key, str], Proof] = field(default_factory=dict)

    async def of(self, key: Key, cluster: str, *, subject: str, url: str, engine_model: str) -> Answered:
        """The last answer, or a new one where that is too old or was another's."""
        known = self._known.get((key, cluster))
        if known is not None and known.subject == subject:
            age = self.now() - known.at
            if age < (self.interval if known.answered.is_good else self.retry_interval):
                return known.answered
        answered = await self.prober.probe(url, engine_model)
        self._known[key, cluster] = Proof(subject, self.now(), answered)
        return answered

    def forget(self, key: Key) -> None:
        for known in [known for known in self._known if known[0] == key]:
            del self._known[known]
