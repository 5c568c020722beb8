"""Carrying out the plan's faults on the running stack, and remembering when each began and was lifted."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from tests.chaos.engine import now_us
from tests.chaos.facts import Befallen
from tests.chaos.market import Market
from tests.chaos.member import Member
from tests.chaos.schedule import Fault, Kind, Plan
from tests.chaos.stack import Stack


class Faults:
    def __init__(self, plan: Plan, stack: Stack, market: Market, note: Callable[[str], None]) -> None:
        self.befallen: list[Befallen] = []
        self.under_way: dict[int, Fault] = {}
        self.revoked_at_us: dict[str, int] = {}
        self._plan = plan
        self._stack = stack
        self._market = market
        self._note = note
        self._line = asyncio.Lock()

    async def befall(self, began: float) -> None:
        async with asyncio.TaskGroup() as group:
            for fault in self._plan.faults:
                group.create_task(self._one(fault, began))
            for seconds in self._plan.top_ups_seconds:
                group.create_task(self._top_up(began + seconds))

    async def _top_up(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        await self._market.top_up()

    async def _one(self, fault: Fault, began: float) -> None:
        await asyncio.sleep(max(0.0, began + fault.at_seconds - time.monotonic()))
        member = self._member(fault)
        async with member.hands_on if member is not None else self._line:
            since = now_us()
            self.under_way[fault.number] = fault
            target = fault.kind.value if member is None else member.name
            self._note(f"{fault.kind.value} ({target})")
            lifted_at_us = await self._carry_out(fault, member)
            self.befallen.append(
                Befallen(
                    number=fault.number,
                    kind=fault.kind,
                    target=target,
                    began_at_us=since,
                    lifted_at_us=lifted_at_us,
                )
            )
            del self.under_way[fault.number]

    def _member(self, fault: Fault) -> Member | None:
        stack = self._stack
        match fault.kind.value.partition("_")[0]:
            case "gateway" | "disk":
                return stack.gateways[fault.gateway]
            case "valkey":
                return None if fault.kind is Kind.VALKEY_SLOW else stack.valkey
            case "worker":
                return stack.worker
            case "api":
                return stack.api
            case "postgres":
                return stack.postgres
            case _:
                return None

    async def _carry_out(self, fault: Fault, member: Member | None) -> int:
        """The microsecond from which nothing stands in the way of recovery any more."""
        match fault.kind:
            case Kind.ROLLING_DEPLOY:
                return await self._rolling_deploy()
            case Kind.KEY_REVOKED:
                return await self._revoke()
            case Kind.VALKEY_SLOW:
                async with _while(fault.lasts_seconds, lambda: self._delay(0.0)):
                    self._delay(fault.delay_seconds)
                return now_us()
            case Kind.DISK_FULL:
                disk = self._stack.disks[fault.gateway]
                async with _while(fault.lasts_seconds, disk.empty):
                    disk.fill()
                return now_us()
            case Kind.VALKEY_FULL:
                with self._stack.full_valkey():
                    await asyncio.sleep(fault.lasts_seconds)
                return now_us()
        assert member is not None, fault
        how = fault.kind.value.partition("_")[2]
        if how == "stopped":
            async with _while(fault.lasts_seconds, member.go_on):
                member.stop()
            return now_us()
        if how == "restarted":
            await member.end()
        else:
            await member.kill()
        if fault.kind is Kind.VALKEY_ERASED:
            self._stack.erase_valkey()
        await asyncio.sleep(fault.lasts_seconds)
        lifted_at_us = now_us()
        await member.ready()
        return lifted_at_us

    async def _rolling_deploy(self) -> int:
        for gateway in self._stack.gateways:
            async with gateway.hands_on:
                await gateway.end()
                await gateway.ready()
        return now_us()

    async def _revoke(self) -> int:
        key, at_us = await self._market.revoke(len(self.revoked_at_us))
        self.revoked_at_us[key] = at_us
        return at_us

    def _delay(self, seconds: float) -> None:
        self._stack.line.delay_seconds = seconds


@contextlib.asynccontextmanager
async def _while(seconds: float, lift: Callable[[], object]) -> AsyncIterator[None]:
    """Lifts the fault after a time, and also when the run is broken off."""
    try:
        yield
        await asyncio.sleep(seconds)
    finally:
        lift()
