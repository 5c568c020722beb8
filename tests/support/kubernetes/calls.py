"""What the API server was asked, kept in order; and how it can be told to misbehave."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass
class Call:
    """One request. `verb` is the one that a role would have to allow."""

    verb: str
    group: str
    plural: str
    namespace: str
    name: str
    subresource: str
    manager: str
    content_type: str
    caller: str
    """The bearer token; empty for none."""
    status: int = 0
    changed: bool = False
    """Whether the cluster was another one afterwards."""

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    @property
    def resource(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.namespace}/{self.name} by {self.manager or '?'}: {self.status}"


@dataclass
class Fault:
    """What happens to the next `times` calls that match."""

    matches: Callable[[Call], bool]
    times: int = 1
    status: int | None = None
    retry_after_seconds: int | None = None
    delay_seconds: float = 0.0
    held_until: asyncio.Event | None = None
    """Answered when it is set, and only then looked at."""
    is_cut: bool = False
    """The connection is reset instead of an answer."""
    is_done: bool = False
    """…but only after the request has had its effect."""


@dataclass
class Script:
    """Faults in the order given, and a moment after which nothing is answered any more."""

    faults: list[Fault] = field(default_factory=list)
    dies_at: int | None = None
    """The how-manyeth of the calls that count, from 0, is the last of all; later ones find nobody."""
    dies_done: bool = False
    """Whether that last call still has its effect."""
    counts: Callable[[Call], bool] = lambda _: True

    def next_fault(self, call: Call) -> Fault | None:
        if self.dies_at is not None and (self.dies_at < 0 or self.counts(call)):
            self.dies_at -= 1
            if self.dies_at < 0:
                return Fault(lambda _: True, is_cut=True, is_done=self.dies_done and self.dies_at == -1)
        for fault in self.faults:
            if fault.times > 0 and fault.matches(call):
                fault.times -= 1
                return fault
        return None

    async def delay(self, fault: Fault) -> None:
        if fault.delay_seconds:
            await asyncio.sleep(fault.delay_seconds)
        if fault.held_until is not None:
            await fault.held_until.wait()
