"""Sends batches' requests, some at once, and writes down how they ended.

Once: a line is claimed in one transaction, sent, and settled in another. Who dies between leaves a claim that ends by
itself; the line is sent again with the same Idempotency-Key, and the gateway answers with what it answered before.
It remembers that for a while, so what has been in doubt for nearly as long is not sent again but told.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from headrace_billing.batches import line_store, store
from headrace_billing.batches.line import LineState, NotAnswered
from headrace_billing.batches.line_store import CLAIM_TIME, Due
from headrace_billing.batches.reply import (
    Reply,
    Silence,
    Verdict,
    doubt_after,
    pause,
    pause_for_room,
    verdict_of,
)
from headrace_billing.database import Database
from headrace_billing.metrics import catalogue
from headrace_contracts.batch_tokens import ANSWERS_KEPT_SECONDS
from headrace_telemetry.metrics import Sample, sample

DOUBT_TIME = timedelta(seconds=ANSWERS_KEPT_SECONDS - 60)
"""Less than gateways remember, by what a request may be on its way to them."""

# Soon enough for what became due meanwhile.
LOOK_SECONDS = 0.5
LAST_SECONDS = 10.0
"""When the worker stops: most answers come within that, and are not made twice."""

TRACEBACK_FRAMES_MAX = 12

log = structlog.get_logger()


class Sender(Protocol):
    async def send(self, due: Due) -> Reply | Silence: ...


class Dispatcher:
    def __init__(
        self, database: Database, gateway: Sender, *, at_once_max: int, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._at_once_max = at_once_max
        self._now = now
        self._under_way: dict[asyncio.Task[None], Due] = {}
        self._kept_at: datetime | None = None
        self._ended: Counter[Verdict] = Counter(dict.fromkeys(Verdict, 0))

    async def step(self) -> bool:
        """Sets out with what is due and fits, and waits a moment for one to come back; whether there may be more."""
        await self._keep()
        free = self._at_once_max - len(self._under_way)
        claimed: list[Due] = []
        if free > 0:
            async with self._database.begin() as session:
                claimed = await line_store.claim(session, limit=free, at=self._now())
            for due in claimed:
                task = asyncio.create_task(self._look_after(due))
                self._under_way[task] = due
                task.add_done_callback(self._under_way.pop)
        under_way = list(self._under_way)
        if under_way:
            await asyncio.wait(under_way, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return bool(under_way)

    async def close(self) -> None:
        """Waits a little for what is under way, and lets go of the rest: whoever works next asks again for its answers."""
        under_way = list(self._under_way)
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=LAST_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def samples(self) -> Iterator[Sample]:
        for verdict, count in self._ended.copy().items():
            yield sample(catalogue.BATCH_REQUESTS, count, verdict)

    async def _keep(self) -> None:
        now = self._now()
        if self._under_way and (self._kept_at is None or now - self._kept_at >= CLAIM_TIME / 3):
            async with self._database.begin() as session:
                await line_store.keep(session, list(self._under_way.values()), at=now)
            self._kept_at = now

    async def _look_after(self, due: Due) -> None:
        try:
            await self._ask(due)
        except Exception:  # noqa: BLE001 - whatever it is, the claim ends and the line comes again
            # As text: a structured traceback would hold the values of local variables.
            log.error(  # noqa: TRY400
                "batch_line_failed",
                batch=due.batch,
                line=due.number,
                traceback=traceback.format_exc(limit=-TRACEBACK_FRAMES_MAX),
            )

    async def _ask(self, due: Due) -> None:
        if due.doubt_since is not None and self._now() - due.doubt_since > DOUBT_TIME:
            await self._settle(due, LineState.FAILED, NotAnswered.LOST)
            return
        sent_at = self._now()
        reply = await self._gateway.send(due)
        verdict = verdict_of(reply, tries=due.tries)
        self._ended[verdict] += 1
        match verdict:
            case Verdict.ANSWERED | Verdict.FAILED:
                state = LineState.ANSWERED if verdict is Verdict.ANSWERED else LineState.FAILED
                await self._settle(due, state, reply if isinstance(reply, Reply) else NotAnswered.NONE)
            case Verdict.NO_ROOM:
                await self._postpone(due, reply, pause_for_room(reply), sent_at=sent_at, counts=False)
            case Verdict.AGAIN:
                await self._postpone(due, reply, pause(due.tries), sent_at=sent_at, counts=True)

    async def _settle(self, due: Due, state: LineState, ended: Reply | NotAnswered) -> None:
        async with self._database.begin() as session:
            await line_store.settle(session, due, state, ended)

    async def _postpone(
        self, due: Due, reply: Reply | Silence, wait: timedelta, *, sent_at: datetime, counts: bool
    ) -> None:
        now = self._now()
        doubt = doubt_after(reply, before=due.doubt_since, sent_at=sent_at, now=now)
        async with self._database.begin() as session:
            await line_store.postpone(session, due, until=now + wait, counts=counts, doubt_since=doubt)
            if not counts:
                # The whole batch waits for room: its next line would be told the same.
                await store.hold_back(session, due.batch, until=now + wait)
