"""Sends what is due, many at once, so that a receiver that is slow keeps nobody else waiting.

At least once: a delivery is claimed in one transaction, sent, and settled in another. Who dies between leaves a claim
that ends by itself, and the message comes again with the same id.
"""

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from datetime import datetime

import structlog

from headrace_billing.database import Database
from headrace_billing.webhooks import queue_store
from headrace_billing.webhooks.queue_store import Delivery
from headrace_billing.webhooks.sending import Sender

IN_FLIGHT_MAX = 64
EACH_MAX = 4
"""Of one endpoint at a time: a receiver that hangs holds no more than these."""
# Soon enough for what became due meanwhile.
LOOK_SECONDS = 0.5
FORGET_BATCH_MAX = 1000
TRACEBACK_FRAMES_MAX = 12

log = structlog.get_logger()


async def forget_old(database: Database, *, now: datetime) -> bool:
    """Drops a batch of messages that are past their time; whether there may be more."""
    async with database.begin() as session:
        return await queue_store.forget(session, now=now, limit=FORGET_BATCH_MAX) == FORGET_BATCH_MAX


class Courier:
    def __init__(
        self, database: Database, sender: Sender, *, signing_key: bytes, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._sender = sender
        self._signing_key = signing_key
        self._now = now
        self._under_way: dict[asyncio.Task[None], str] = {}

    async def step(self) -> bool:
        """Sets out with what is due and fits, and waits a moment for one to come back; whether there may be more."""
        busy = sorted(set(self._under_way.values()))
        free = IN_FLIGHT_MAX - len(self._under_way)
        if free > 0:
            async with self._database.begin() as session:
                claimed = await queue_store.claim(
                    session, now=self._now(), limit=free, each=EACH_MAX, busy=busy
                )
            for delivery in claimed:
                task = asyncio.create_task(self._deliver(delivery))
                self._under_way[task] = delivery.endpoint.id
                task.add_done_callback(self._under_way.pop)
        under_way = list(self._under_way)
        if under_way:
            await asyncio.wait(under_way, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        # Whoever comes back makes room for more of its endpoint.
        return bool(busy) or bool(under_way)

    async def close(self) -> None:
        """Lets what is under way come back."""
        while self._under_way:
            await asyncio.wait(list(self._under_way))
        await self._sender.close()

    async def _deliver(self, delivery: Delivery) -> None:
        endpoint, message, began = delivery.endpoint, delivery.message, time.monotonic()
        try:
            headers = endpoint.headers(message, signing_key=self._signing_key, now=self._now())
            answer = await self._sender.send(endpoint.url, message.body(), headers)
            async with self._database.begin() as session:
                await queue_store.record(
                    session,
                    delivery,
                    answer,
                    now=self._now(),
                    seconds=time.monotonic() - began,
                    chance=random.random(),  # noqa: S311 - jitter, no secret
                )
        except Exception:  # noqa: BLE001 - whatever it is, the claim ends and another attempt comes
            # As text: a structured traceback would hold the values of local variables.
            log.error(  # noqa: TRY400
                "webhook_delivery_failed",
                endpoint=endpoint.id,
                message=message.id,
                traceback=traceback.format_exc(limit=-TRACEBACK_FRAMES_MAX),
            )
