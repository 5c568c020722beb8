"""Whose turn it is: the fair order of those who wait for a deployment's slots, from how all stands at one instant.

Pure, and the same at every gateway: each works out the order of all and takes the turns that are its own. Interactive
requests come before batch ones, whoever's they are. Within a class organisations take turns by start-time fair
queueing: each has a tag on a clock of slot time, which moves on by what its requests hold, over its weight; the lowest
is next. Of equals and of one organisation the longest waiting is next, at whichever gateway.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

US_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Requests of one organisation and class that wait at one gateway."""

    gateway: str
    rank: int
    """0 before 1."""
    org: str
    weight: int
    count: int
    since_ms: int
    """When the first of them came, on a clock that all of one standing share."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a deployment's slots stand."""

    running: int
    mean_us: int
    """How long a request holds one, by the latest; 0 where none has ended yet."""
    clock_us: int
    waiting: Sequence[Waiting] = ()
    tags_us: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(each.count for each in self.waiting)

    @property
    def gateways(self) -> int:
        return len({each.gateway for each in self.waiting})


def fair_order(standing: Standing) -> Iterator[Waiting]:
    """Everybody who waits, one by one, as they would be served if each held its slot for the mean time."""
    expected_us = max(1, standing.mean_us)
    starts = {
        each.org: max(standing.clock_us, standing.tags_us.get(each.org, 0)) for each in standing.waiting
    }
    for rank in sorted({each.rank for each in standing.waiting}):
        queues: dict[str, list[tuple[int, str, int, Waiting]]] = {}
        for each in standing.waiting:
            if each.rank == rank and each.count > 0:
                queues.setdefault(each.org, []).append((each.since_ms, each.gateway, each.count, each))
        for queue in queues.values():
            heapq.heapify(queue)
        order = [(starts[org], queue[0][0], org) for org, queue in queues.items()]
        heapq.heapify(order)
        while order:
            start, _, org = heapq.heappop(order)
            since_ms, gateway, count, waiting = heapq.heappop(queues[org])
            yield waiting
            if count > 1:
                # When the next of them came is not known; soon after is near enough.
                heapq.heappush(queues[org], (since_ms + 1, gateway, count - 1, waiting))
            starts[org] = start + max(1, expected_us // waiting.weight)
            if queues[org]:
                heapq.heappush(order, (starts[org], queues[org][0][0], org))


def turns_of(standing: Standing, *, gateway: str, slots: int) -> list[tuple[int, str]]:
    """Rank and organisation of each who may go now at this gateway, in order."""
    free = slots - standing.running
    turns = []
    for each in fair_order(standing):
        if free <= 0:
            break
        free -= 1
        if each.gateway == gateway:
            turns.append((each.rank, each.org))
    return turns


def seconds_to_turn(
    standing: Standing, *, slots: int, newcomer: Waiting, round_seconds: float = 0
) -> float | None:
    """How long until the turn of one more who comes now; null before anything is measured.

    As many slots come free in the mean time as there are, so they come one by one in that time over their number.
    `round_seconds`: how often gateways look. A slot that another one than its next user's gives back stands empty for
    half of that.
    """
    if standing.mean_us == 0 or slots == 0:
        return None
    before = 0
    for each in fair_order(replace(standing, waiting=[*standing.waiting, newcomer])):
        if each is newcomer:
            break
        before += 1
    free = max(0, slots - standing.running)
    elsewhere = 1 - 1 / max(1, standing.gateways)
    held_seconds = standing.mean_us / US_PER_SECOND + elsewhere * round_seconds / 2
    return max(0, before + 1 - free) * held_seconds / slots
