"""Telling gateways at once what a committed step changed: the task, and what its wallet may spend.

The books are right already. What can't be told now, the worker tells later.
"""

import structlog
from redis.asyncio import Redis

from headrace_billing.accounts import outbox
from headrace_billing.database import Database
from headrace_billing.ledger import spendable
from headrace_billing.parts import Parts
from headrace_billing.valkey import ValkeyError

log = structlog.get_logger()


async def announce(parts: Parts, record: str, *, wallet: str) -> None:
    await tell(parts.database, parts.valkey, record, wallet=wallet)


async def tell(database: Database, valkey: Redis, record: str, *, wallet: str) -> None:
    try:
        await spendable.push(database, valkey, [wallet])
        await outbox.push(database, valkey, [record])
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", record=record, wallet=wallet, error=type(error).__name__)
