"""Which deployments are to be looked at, and when: each by one worker at a time, however often it is named.

Watches name a deployment when something of it has changed; every pass says itself when to look again. What fails is
tried again, later and later, and never holds up the others.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from headrace_platform.control.kubernetes_api import ApiRefused, ApiUnavailable, Conflict
from headrace_platform.control.observation import Key

BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 120.0
# So many deployments at once ask the API server, ten reads each.
WORKERS = 8
# A pass that takes longer has lost its way: the slowest answer of every cluster's probe, and then some.
PASS_TIMEOUT_SECONDS = 300.0

log = structlog.get_logger()


@dataclass
class WorkQueue:
    reconcile: Callable[[Key], Awaitable[timedelta | None]]
    is_leading: Callable[[], bool] = lambda: True
    """Nothing is done while somebody else does it."""
    _due: dict[Key, float] = field(default_factory=dict)
    """When to look, in the loop's time."""
    _running: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: Key, *, after: timedelta = timedelta()) -> None:
        """No later than so long from now; sooner where it was due sooner."""
        at = asyncio.get_running_loop().time() + after.total_seconds()
        self._due[key] = min(at, self._due.get(key, at))
        self._news.set()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._next()
            self._running.add(key)
            try:
                again = await self._look(key)
            finally:
                self._running.discard(key)
            if again is not None:
                self.add(key, after=again)
            self._news.set()

    async def _next(self) -> Key:
        loop = asyncio.get_running_loop()
        while True:
            free = {key: at for key, at in self._due.items() if key not in self._running}
            first = min(free, key=lambda key: free[key], default=None)
            wait_seconds = None if first is None else free[first] - loop.time()
            if first is not None and wait_seconds is not None and wait_seconds <= 0 and self.is_leading():
                del self._due[first]
                return first
            if wait_seconds is not None and wait_seconds <= 0:
                wait_seconds = 1.0  # somebody else leads; we may soon
            self._news.clear()
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _look(self, key: Key) -> timedelta | None:
        try:
            async with asyncio.timeout(PASS_TIMEOUT_SECONDS):
                again = await self.reconcile(key)
        except Conflict as conflict:
            # Somebody else has written; what there is now is looked at anew.
            log.info("looked_at_too_early", deployment=str(key), why=str(conflict))
            return self._backoff(key)
        except (ApiRefused, ApiUnavailable, TimeoutError) as error:
            log.warning("pass_failed", deployment=str(key), error=type(error).__name__, why=str(error))
            return self._backoff(key)
        except Exception:
            # A bug of ours in one deployment must not stop the others.
            log.exception("pass_broken", deployment=str(key))
            return self._backoff(key)
        self._failures.pop(key, None)
        if again is None:
            return None
        # Spread, so that deployments that were seen together are not looked at together for ever.
        return again * random.uniform(0.9, 1.1)  # noqa: S311

    def _backoff(self, key: Key) -> timedelta:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = min(BACKOFF_SECONDS_MIN * 2 ** min(failures, 20), BACKOFF_SECONDS_MAX)
        return timedelta(seconds=seconds * random.uniform(0.5, 1.0))  # noqa: S311
