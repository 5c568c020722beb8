"""Carrying out the plan's visits: each at its moment, whatever became of those before it."""

import asyncio
import time
from dataclasses import replace

from tests.chaos.client import PAUSE_SECONDS, tries_again, visit_gateway
from tests.chaos.facts import Reply
from tests.chaos.market import Market
from tests.chaos.schedule import Plan, Visit

# Clients of a slow service pile up, and this process is not what is under test.
AT_ONCE_MAX = 80


class Traffic:
    def __init__(self, plan: Plan, market: Market, ports: list[int]) -> None:
        self.replies: list[Reply] = []
        self.running = 0
        self._plan = plan
        self._market = market
        self._ports = ports
        self._places = asyncio.Semaphore(AT_ONCE_MAX)

    async def flow(self, began: float) -> None:
        """From `began` (monotonic) until the last client has gone."""
        async with asyncio.TaskGroup() as group:
            for visit in self._plan.visits:
                if (wait := began + visit.at_seconds - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await self._places.acquire()
                group.create_task(self._visit(visit))

    async def _visit(self, visit: Visit) -> None:
        self.running += 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._try(visit, visit.gateway))
                if visit.asks_twice:
                    group.create_task(self._try(visit, self._next(visit.gateway)))
        finally:
            self.running -= 1
            self._places.release()

    async def _try(self, visit: Visit, gateway: int) -> None:
        keys = self._market.secrets[visit.role]
        for _ in range(1 + visit.retries):
            reply = await visit_gateway(
                visit, port=self._ports[gateway], gateway=gateway, secret=keys[visit.key % len(keys)]
            )
            self.replies.append(reply)
            if not tries_again(reply):
                return
            gateway = self._next(gateway)
            visit = replace(visit, hang_up_after=None)
            await asyncio.sleep(PAUSE_SECONDS)

    def _next(self, gateway: int) -> int:
        return (gateway + 1) % len(self._ports)
