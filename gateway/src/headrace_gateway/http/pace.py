"""How slow a client may be with what is not held here but goes through: somebody waits at its other end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pace:
    def __init__(self, *, grace_seconds: float, bytes_a_second_min: int) -> None:
        """`grace_seconds`: that the client may be waited for beyond what its bytes take at that pace."""
        self._grace_seconds = grace_seconds
        self._bytes_a_second_min = bytes_a_second_min
        self._waited_seconds = 0.0

    @asynccontextmanager
    async def waiting(self, come_bytes: int) -> AsyncIterator[None]:
        """Around a wait for the client, of which so much has come, or gone, until now. Raises `TimeoutError`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        patience_seconds = self._grace_seconds + come_bytes / self._bytes_a_second_min - self._waited_seconds
        async with asyncio.timeout(patience_seconds):
            yield
        self._waited_seconds += loop.time() - began
