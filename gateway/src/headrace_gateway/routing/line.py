"""Those who wait at this gateway for one deployment's slots.

What must stay true: who waits holds no lease and no money; turns are given in the fair order of all gateways
(`limits.turns`), of which every round tells this one's part.

A round is one script call. What ends here starts one at once; of slots that come free at other gateways this one
hears by asking every few hundredths of a second while somebody waits here. So a slot whose next user waits elsewhere
stands empty for half of that on average, which is what it costs not to be told.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from headrace_contracts.deployments import Deployment
from headrace_gateway.errors import LimitsUnavailable
from headrace_gateway.limits.slots import Entry
from headrace_gateway.limits.turns import Standing, Waiting, seconds_to_turn, turns_of
from headrace_gateway.valkey.errors import ValkeyError

log = structlog.get_logger()

ROUND_SECONDS = 0.025
ROUND_SECONDS_PER_GATEWAY = 0.005
ROUND_SECONDS_MAX = 0.15
"""Many gateways ask less often each, so that all of them together do not ask too much of Valkey."""

YOUNGER_THAN_ALL_MS = 2**53

UNBOUNDED = 2**53
"""Slots of a deployment that has lost its bound while somebody waited."""


class Slots(Protocol):
    """What a line needs of the limiter."""

    gateway: str

    async def waiting(self, deployment: str, entries: Sequence[Entry]) -> Standing: ...


class Waiter:
    """One request that waits, in one line or in several: the first that has a turn for it gets it."""

    __slots__ = ("_taken", "deployments", "org", "rank", "since", "turn", "weight")

    def __init__(self, deployments: Sequence[Deployment], *, rank: int, org: str, weight: int) -> None:
        loop = asyncio.get_running_loop()
        self.deployments = deployments
        self.rank = rank
        self.org = org
        self.weight = weight
        self.since = loop.time()
        self.turn: asyncio.Future[Line] = loop.create_future()
        """The line that has a turn for it, or what ends the waiting otherwise."""
        self._taken = False

    def fail(self, error: Exception) -> None:
        if not self.turn.done():
            self.turn.set_exception(error)

    def take_turn(self) -> "Line":
        """To be followed by the line's `tried`. Raises what ends the waiting."""
        self._taken = True
        return self.turn.result()

    def wait_again(self) -> None:
        self.turn, self._taken = self.turn.get_loop().create_future(), False

    def decline(self) -> None:
        """Does not wait any longer; a turn that came meanwhile is another's."""
        if self.turn.done() and not self._taken and self.turn.exception() is None:
            self.turn.result().tried()
        self.turn.cancel()


class Line:
    def __init__(
        self,
        slots: Slots,
        deployment: Deployment,
        *,
        newest: Callable[[Deployment], Deployment],
        served: Callable[[Waiter], None],
        empty: Callable[[], None],
    ) -> None:
        """`served` takes who has a turn out of all lines; `empty` is told when nobody waits any more."""
        self._slots = slots
        self._newest = newest
        self._served = served
        self._empty = empty
        self._deployment = deployment
        self._trying = 0
        self._groups: dict[tuple[int, str], OrderedDict[Waiter, None]] = {}
        self._standing = Standing(running=0, mean_us=0, clock_us=0)
        self._heard = asyncio.Event()
        self._stirred = asyncio.Event()
        self._rounds = asyncio.create_task(self._go_round(), name=f"line {deployment.id}")

    @property
    def deployment(self) -> Deployment:
        """As it is now, whatever those who wait found: its slots come and go meanwhile."""
        return self._newest(self._deployment)

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def __iter__(self) -> Iterator[Waiter]:
        return iter([waiter for group in self._groups.values() for waiter in group])

    def count_of(self, org: str) -> int:
        return sum(len(group) for (_, owner), group in self._groups.items() if owner == org)

    async def heard(self) -> None:
        """Returns when a round has told how all stand, or has failed to."""
        if not self._heard.is_set():
            self.stir()
            await self._heard.wait()

    def now_standing(self) -> Standing:
        """As the last round told it, with those who wait here now."""
        me = self._slots.gateway
        others = [each for each in self._standing.waiting if each.gateway != me]
        mine = [
            Waiting(me, rank, org, weight, count, -age) for rank, org, weight, count, age in self._entries()
        ]
        return replace(self._standing, waiting=others + mine)

    def seconds_to_turn(self, waiter: Waiter) -> float | None:
        """How long one like this that came now would wait; null before anything is measured."""
        newcomer = Waiting(
            self._slots.gateway, waiter.rank, waiter.org, waiter.weight, 1, YOUNGER_THAN_ALL_MS
        )
        standing = self.now_standing()
        return seconds_to_turn(
            standing,
            slots=self.deployment.slots or 0,
            newcomer=newcomer,
            round_seconds=round_seconds(standing),
        )

    def enter(self, waiter: Waiter, *, first: bool = False) -> None:
        group = self._groups.setdefault((waiter.rank, waiter.org), OrderedDict())
        group[waiter] = None
        if first:
            group.move_to_end(waiter, last=False)
        if len(group) == 1:
            # The others must know that somebody of it waits; how many, they hear soon enough.
            self.stir()

    def leave(self, waiter: Waiter) -> None:
        place = (waiter.rank, waiter.org)
        group = self._groups.get(place)
        if group is not None and waiter in group:
            del group[waiter]
            if not group:
                del self._groups[place]
                self.stir()

    def tried(self) -> None:
        """Who had a turn has taken its slot, or could not."""
        self._trying -= 1
        self.stir()

    def stir(self) -> None:
        """Something changed: a round is due now."""
        self._stirred.set()

    async def _go_round(self) -> None:
        """Until nobody waits, which the last round says."""
        try:
            while self._groups or self._trying or self._stirred.is_set():
                self._stirred.clear()
                await self._round()
                if self._groups or self._trying:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stirred.wait(), round_seconds(self._standing))
        except Exception:
            log.exception("line_broke", deployment=self.deployment.id)
            self._end(LimitsUnavailable("Limits can't be checked at the moment."))
        finally:
            self._heard.set()
            self._empty()

    async def _round(self) -> None:
        try:
            self._standing = await self._slots.waiting(self.deployment.id, self._entries())
        except ValkeyError as error:
            log.warning("line_unheard", deployment=self.deployment.id, error=str(error))
            self._end(LimitsUnavailable("Limits can't be checked at the moment."))
            return
        self._heard.set()
        slots = self.deployment.slots
        free = UNBOUNDED if slots is None else slots - self._trying
        for place in turns_of(self._standing, gateway=self._slots.gateway, slots=free):
            # Some may have gone while Valkey was asked.
            for waiter in self._groups.get(place, ()):
                if waiter.turn.done():
                    continue  # its client has just gone, and it is about to leave
                self._served(waiter)
                self._trying += 1
                waiter.turn.set_result(self)
                break

    def _end(self, error: Exception) -> None:
        for waiter in self:
            self._served(waiter)
            waiter.fail(error)

    def _entries(self) -> list[Entry]:
        now = asyncio.get_running_loop().time()
        return [
            (rank, org, first.weight, len(group), round((now - first.since) * 1000))
            for (rank, org), group in self._groups.items()
            for first in [next(iter(group))]
        ]


def round_seconds(standing: Standing) -> float:
    """How long a round waits for something to happen here before it asks again."""
    return min(ROUND_SECONDS + ROUND_SECONDS_PER_GATEWAY * standing.gateways, ROUND_SECONDS_MAX)
