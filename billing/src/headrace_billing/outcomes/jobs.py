"""What happens to outcomes unasked: verification that waits for usage, and windows that end."""

import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.outcomes import lifecycle, store, task_store
from headrace_billing.outcomes.announcing import tell
from headrace_billing.outcomes.opening import close_unbilled, lock_task
from headrace_billing.outcomes.outcome import UNDECIDED
from headrace_billing.outcomes.task import OutcomeAlreadyBilled
from headrace_contracts.access import TaskStatus

log = structlog.get_logger()

BATCH_MAX = 200
"""Outcomes looked at in one page; each is a transaction of its own, so none waits for another."""


async def pass_time(database: Database, valkey: Redis, *, now: Callable[[], datetime]) -> int:
    """Gives every undecided outcome its turn, and closes tasks that brought nothing; how many tasks it closed."""
    closed, after = 0, ""
    while True:
        async with database.begin() as session:
            ids = await store.undecided(session, limit=BATCH_MAX, after=after)
        for outcome_id in ids:
            closed += await _in_turn(database, valkey, outcome_id, _outcome_turn, now())
        if len(ids) < BATCH_MAX:
            break
        after = ids[-1]
    async with database.begin() as session:
        tasks = await task_store.without_evidence(session, before=now(), limit=BATCH_MAX)
    for task_id in tasks:
        closed += await _in_turn(database, valkey, task_id, _task_turn, now())
    return closed


TRACEBACK_FRAMES_MAX = 12

Turn = Callable[[AsyncSession, str, datetime], Awaitable[tuple[str | None, str]]]
"""→ the Valkey key of a record that changed, and the wallet."""


async def _in_turn(database: Database, valkey: Redis, key: str, turn: Turn, at: datetime) -> int:
    """One that fails must not keep the others from their turn; it is logged, and has another next time."""
    try:
        async with database.begin() as session:
            record, wallet = await turn(session, key, at)
    except OutcomeAlreadyBilled:
        log.warning("outcome_already_billed", outcome=key)
        return 0
    except Exception:  # noqa: BLE001 - whatever it is, the next one has its turn
        # As text: a structured traceback would hold the values of local variables.
        log.error(  # noqa: TRY400
            "outcome_turn_failed", key=key, traceback=traceback.format_exc(limit=-TRACEBACK_FRAMES_MAX)
        )
        return 0
    if record is None:
        return 0
    await tell(database, valkey, record, wallet=wallet)
    return 1


async def _outcome_turn(session: AsyncSession, outcome_id: str, at: datetime) -> tuple[str | None, str]:
    case = await lifecycle.lock_case(session, outcome_id)
    return await lifecycle.pass_time(session, case, at=at), case.task.wallet


async def _task_turn(session: AsyncSession, task_id: str, at: datetime) -> tuple[str | None, str]:
    task = await lock_task(session, task_id)
    undecided = any(outcome.status in UNDECIDED for outcome in await store.of_task(session, task_id))
    if task.status is not TaskStatus.OPEN or undecided:
        return None, task.wallet
    return await close_unbilled(session, task, at=at), task.wallet
