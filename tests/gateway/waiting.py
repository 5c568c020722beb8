"""Waiting for what happens behind a request."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Returns when the condition holds; fails when it doesn't in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at is outside this process
            await asyncio.sleep(0.01)
