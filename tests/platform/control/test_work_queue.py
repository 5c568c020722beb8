"""Each deployment is looked at by one worker at a time, again when it says so, and later and later when it fails."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from headrace_platform.control.kubernetes_api import ApiUnavailable
from headrace_platform.control.observation import Key
from headrace_platform.control.work_queue import WorkQueue

CHAT, CODE = Key("acme", "chat"), Key("acme", "code")


@asynccontextmanager
async def working(queue: WorkQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def counted(look: Callable[[Key, int], Awaitable[timedelta | None]]) -> tuple[WorkQueue, Counter[Key]]:
    """A queue of passes that are told their number, and how many there were."""
    looks: Counter[Key] = Counter()

    async def reconcile(key: Key) -> timedelta | None:
        looks[key] += 1
        return await look(key, looks[key])

    return WorkQueue(reconcile), looks


async def test_what_is_named_during_a_pass_is_looked_at_once_more_and_never_twice_at_once() -> None:
    begun, go_on, at_work, most = asyncio.Event(), asyncio.Event(), 0, 0

    async def look(_: Key, number: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if number == 1:
            begun.set()
            await go_on.wait()
        at_work -= 1
        if number == 2:
            done.set()

    done = asyncio.Event()
    queue, looks = counted(look)
    async with working(queue), asyncio.timeout(10):
        queue.add(CHAT)
        await begun.wait()
        for _ in range(5):
            queue.add(CHAT)
        await asyncio.sleep(0)
        go_on.set()
        await done.wait()
    assert (most, looks[CHAT]) == (1, 2)


async def test_a_slow_or_broken_deployment_does_not_hold_up_the_others() -> None:
    done = asyncio.Event()

    async def look(key: Key, number: int) -> timedelta | None:
        if key == CHAT:
            raise [ApiUnavailable("away"), KeyError("a bug of ours")][number % 2]
        done.set()
        return None

    queue, looks = counted(look)
    async with working(queue), asyncio.timeout(10):
        queue.add(CHAT)
        queue.add(CODE)
        await done.wait()
    assert looks[CODE] == 1


async def test_a_failed_pass_comes_again_by_itself_and_a_good_one_when_it_said() -> None:
    done = asyncio.Event()

    async def look(_: Key, number: int) -> timedelta | None:
        if number == 1:
            raise ApiUnavailable("away")
        if number == 2:
            return timedelta()
        done.set()
        return None

    queue, looks = counted(look)
    async with working(queue), asyncio.timeout(10):
        queue.add(CHAT)
        await done.wait()
    assert looks[CHAT] == 3


async def test_who_does_not_lead_does_nothing() -> None:
    async def look(_: Key, __: int) -> None:
        return None

    queue, looks = counted(look)
    queue.is_leading = lambda: False
    async with working(queue):
        queue.add(CHAT)
        for _ in range(20):
            await asyncio.sleep(0)
    assert looks[CHAT] == 0
