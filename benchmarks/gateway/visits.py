"""The traffic of a soak: visits over connections of their own, plain, streamed, and broken off at any moment."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.gateway.load import HOST, Target, Unanswered

ANSWER_SECONDS_MAX = 30.0
PLAIN_SHARE, STREAM_SHARE = 0.6, 0.25
"""The rest hang up: some before the answer begins, some in the midst of a stream."""
WITHOUT_A_WORD_SHARE = 0.3
WAIT_SECONDS_MAX = 0.003
READS_MAX = 40


class Visit(StrEnum):
    PLAIN = "plain"
    STREAM = "stream"
    HANG_UP = "hang_up"


@dataclass(slots=True)
class Visits:
    target: Target
    each_seconds: float
    """Between two visits, in the mean."""
    at_once_max: int = 256
    made: Counter[Visit] = field(default_factory=Counter)

    async def flow(self, seconds: float) -> None:
        """Returns when the last visit is over. Raises `Unanswered` when one got no whole answer that wanted it."""
        loop, chance = asyncio.get_running_loop(), random.Random(1)
        until, free = loop.time() + seconds, asyncio.Semaphore(self.at_once_max)
        async with asyncio.TaskGroup() as group:
            while loop.time() < until:
                await free.acquire()
                task = group.create_task(self._visit(chance))
                task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(chance.expovariate(1 / self.each_seconds))

    async def _visit(self, chance: random.Random) -> None:
        kind = _kind(chance)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(HOST, self.target.port)
            try:
                streamed = kind is Visit.STREAM or (kind is Visit.HANG_UP and chance.random() < 0.7)
                writer.write(self.target.request(streamed=streamed))
                if kind is Visit.HANG_UP:
                    await _leave_early(reader, chance, reads_max=READS_MAX if streamed else 1)
                    writer.transport.abort()
                else:
                    await _read(reader, streamed=streamed)
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        self.made[kind] += 1


def _kind(chance: random.Random) -> Visit:
    drawn = chance.random()
    if drawn < PLAIN_SHARE:
        return Visit.PLAIN
    return Visit.STREAM if drawn < PLAIN_SHARE + STREAM_SHARE else Visit.HANG_UP


async def _read(reader: asyncio.StreamReader, *, streamed: bool) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Unanswered(repr(head[:300]))
    if streamed:
        await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    else:
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)


async def _leave_early(reader: asyncio.StreamReader, chance: random.Random, *, reads_max: int) -> None:
    if chance.random() < WITHOUT_A_WORD_SHARE:
        await asyncio.sleep(chance.uniform(0, WAIT_SECONDS_MAX))
        return
    for _ in range(chance.randint(1, reads_max)):
        if (await reader.read(65536)).endswith(b"0\r\n\r\n"):
            return
