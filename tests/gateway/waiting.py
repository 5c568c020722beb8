"""Waiting for what happens behind a request."""

import asyncio
from collections.abc import Callable

LOOKS_AT_REST = 15


async def eventually(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Returns when the condition holds; fails when it doesn't in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at is outside this process
            await asyncio.sleep(0.01)


async def at_rest(value: Callable[[], int]) -> int:
    """Waits until it changes no more, and gives what it is then.

    It is looked at many times: one look may come after the whole process stood still, and then nothing has moved.
    """
    seen, looks = value(), 0
    async with asyncio.timeout(60):
        while looks < LOOKS_AT_REST:
            await asyncio.sleep(0.02)
            looks = looks + 1 if value() == seen else 0
            seen = value()
    return seen
