"""Gateways that share a deployment's slots, and customers who ask for more than there is."""

import asyncio
import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import redis

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Ending
from headrace_gateway.call import Lease
from headrace_gateway.errors import CapacityExhausted, LimitsUnavailable
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.interruption import Running
from headrace_gateway.http.placement import Placement
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.routing.lines import Lines, QueueBounds
from tests.gateway.account import DEPLOYMENT, Account, call, credentials, usage

BOUNDS = QueueBounds(wait_seconds=60, requests_max=1000, org_requests_max=500)


def slotted(slots: int, **changes: Any) -> Deployment:
    return msgspec.structs.replace(DEPLOYMENT, slots=slots, **changes)


def customer(client: redis.Redis, number: int, *, weight: int = 1, **key: Any) -> Account:
    """One of an organisation of its own, with money to spare."""
    account = Account(client, secret=f"hr-{number:043}", id=str(number))
    account.push_prices()
    account.push_project(org_weight=weight)
    account.push_key(**key)
    account.fund(10**9)
    account.warm()
    return account


class Client:
    """As much of an exchange as waiting needs."""

    def __init__(self) -> None:
        self._then: Callable[[], None] | None = None

    def when_gone(self, then: Callable[[], None] | None) -> None:
        self._then = then

    def hang_up(self) -> None:
        assert self._then is not None, "it does not wait"
        self._then()


@dataclass
class Engine:
    """Holds each request for a while and counts whose they are."""

    slots: int
    seconds: dict[str, float] = field(default_factory=dict)
    default_seconds: float = 0.05
    running: int = 0
    most: int = 0
    served: Counter[str] = field(default_factory=Counter)
    slot_seconds: Counter[str] = field(default_factory=Counter)

    async def serve(self, account: Account) -> None:
        loop = asyncio.get_running_loop()
        self.running += 1
        self.most = max(self.most, self.running)
        began = loop.time()
        try:
            await asyncio.sleep(self.seconds.get(account.id, self.default_seconds))
        finally:
            self.running -= 1
        self.served[account.id] += 1
        self.slot_seconds[account.id] += loop.time() - began  # type: ignore[assignment]


@dataclass
class Gateway:
    meter: GatewayMeter
    lines: Lines
    placement: Placement
    table: dict[str, Deployment]
    """Deployments that have changed since they were asked for, by id."""

    async def admit(
        self, account: Account, *deployments: Deployment, client: Client | None = None
    ) -> tuple[Lease, Deployment]:
        caller = await self.meter.authenticate(credentials(account), KeyScope.INFERENCE)
        calls = [call(account, deployment=deployment) for deployment in deployments]
        exchange = cast("Exchange", client or Client())
        lease, admitted = await self.placement.admit(exchange, caller, calls)
        return lease, admitted.deployment

    async def settle(self, lease: Lease, deployment: Deployment) -> None:
        settled = lease.settle(Ending.COMPLETED, usage=usage(7, 5))
        self.lines.freed(deployment)
        await settled

    async def ask(self, account: Account, deployment: Deployment, engine: Engine) -> None:
        """One request from its admission to its settlement."""
        lease, served_at = await self.admit(account, deployment)
        try:
            await engine.serve(account)
        finally:
            settled = lease.settle(Ending.COMPLETED, usage=usage(7, 5))
            self.lines.freed(served_at)
        await settled

    async def keep_asking(self, account: Account, deployment: Deployment, engine: Engine) -> None:
        """As soon as one is answered, the next; who is refused comes again soon."""
        for _ in itertools.count():
            try:
                await self.ask(account, deployment, engine)
            except (CapacityExhausted, LimitsUnavailable):
                await asyncio.sleep(0.05)


def _newest(table: dict[str, Deployment], deployment: Deployment) -> Deployment:
    return table.get(deployment.id, deployment)


@contextlib.asynccontextmanager
async def gateways(
    settings: MeterSettings, count: int, *, bounds: QueueBounds = BOUNDS
) -> AsyncIterator[list[Gateway]]:
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for number in range(count):
            state_dir = settings.state_dir / str(number)
            state_dir.mkdir()
            # Everybody may come at the same moment.
            own = replace(
                settings,
                name=f"gateway{number}",
                state_dir=state_dir,
                inflight_slots=256,
                segment_bytes=2 * 2**20,
                journal_bytes_max=4 * 2**20,
            )
            meter = await stack.enter_async_context(open_meter(own))
            table: dict[str, Deployment] = {}
            lines = Lines(meter.limiter, bounds, newest=functools.partial(_newest, table))
            placement = Placement(meter, lines, Running(deadline_seconds=600))
            opened.append(Gateway(meter, lines, placement, table))
        yield opened


@contextlib.asynccontextmanager
async def crowd(*asking: Any) -> AsyncIterator[None]:
    """Coroutines that run beside, until the block ends."""
    tasks = [asyncio.create_task(each) for each in asking]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end  # it had stopped asking
