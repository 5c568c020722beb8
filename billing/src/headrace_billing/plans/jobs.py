"""What happens to subscriptions unasked: time passes, and service is lost and regained.

Each is a transaction of its own that holds its subscription's lock, so any number of workers share the work, and one
that dies leaves it to the next.
"""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.database import Database
from headrace_billing.plans import store
from headrace_billing.plans.applying import apply, catch_up
from headrace_billing.plans.changing import follow_service
from headrace_billing.plans.period import whole_second
from headrace_billing.valkey import ValkeyError

log = structlog.get_logger()

BATCH_MAX = 100
"""Subscriptions in one go of the worker's loop, which comes again at once where so many had their turn."""
TRACEBACK_FRAMES_MAX = 12

Turn = Callable[[AsyncSession, str, datetime], Awaitable[list[str]]]
"""→ the Valkey keys of what changed."""


async def pass_time(database: Database, valkey: Redis, *, now: datetime) -> bool:
    """Whether there may be more at once."""
    # First, so that who has lost its service is not charged for a period that begins after that.
    async with database.begin() as session:
        out_of_step = await store.out_of_step(session, limit=BATCH_MAX)
    followed = await _in_turn(database, valkey, out_of_step, _follow, now)
    async with database.begin() as session:
        due = await store.due(session, now=now, limit=BATCH_MAX)
    return max(followed, await _in_turn(database, valkey, due, _turn, now)) == BATCH_MAX


async def _in_turn(
    database: Database, valkey: Redis, subscriptions: Sequence[str], turn: Turn, now: datetime
) -> int:
    """How many had it. One that fails must not keep the others from theirs; it is logged, and has another next time."""
    had = 0
    for subscription in subscriptions:
        try:
            async with database.begin() as session:
                places = await turn(session, subscription, now)
        except Exception:  # noqa: BLE001 - whatever it is, the next one has its turn
            # As text: a structured traceback would hold the values of local variables.
            log.error(  # noqa: TRY400
                "subscription_turn_failed",
                subscription=subscription,
                traceback=traceback.format_exc(limit=-TRACEBACK_FRAMES_MAX),
            )
            continue
        had += 1
        # The outbox's own loop does it within half a second where Valkey does not answer now.
        with suppress(ValkeyError):
            await outbox.push(database, valkey, places)
    return had


async def _turn(session: AsyncSession, subscription: str, now: datetime) -> list[str]:
    found = await store.find(session, subscription, lock=True)
    return (await catch_up(session, found, now=now))[1]


async def _follow(session: AsyncSession, subscription: str, now: datetime) -> list[str]:
    found = await store.find(session, subscription, lock=True)
    overdue = await store.is_overdue(session, found.org)
    step = follow_service(found, now=whole_second(now), overdue=overdue)
    return [] if step is None else await apply(session, found, step, now=now)
