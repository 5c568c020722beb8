"""A job that dies of SIGKILL after its first statement, then after its second, and so on until it gets through.

Run as a process of its own: `killed_step.py STEP DATABASE_URL VALKEY_URL ORGANIZATION TIME`; prints how often it died.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.invoicing.month import close_months
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.ledger.notices import tell_low_balances
from headrace_billing.rating.jobs import put_into_force
from headrace_billing.valkey import connect
from headrace_billing.webhooks import queue_store
from headrace_billing.webhooks.jobs import Courier
from headrace_billing.webhooks.sending import Sender

DEATHS_MAX = 60

Step = Callable[[Database, Redis, str, datetime], Awaitable[object]]


async def deliver(database: Database, at: datetime) -> None:
    """All that is due. A claim ends at once, so that the next one need not wait for whoever died."""
    queue_store.CLAIM = timedelta(0)
    sender = Sender(allowed=[ip_network("127.0.0.0/8")])
    courier = Courier(database, sender, signing_key=bytes(range(32)), now=lambda: at)
    while await courier.step():
        pass
    await courier.close()


STEPS: dict[str, Step] = {
    "month": lambda database, _, org, at: close_months(
        database, organization=org, currency="USD", before=at, now=at
    ),
    "expiry": lambda database, _, _org, at: expire_lots(database, now=at),
    "alerts": lambda database, _, _org, at: tell_low_balances(database, now=at),
    "prices": lambda database, valkey, _, at: put_into_force(database, valkey, now=at),
    "webhooks": lambda database, _, _org, at: deliver(database, at),
}


def die_after(statements: int) -> None:
    execute, left = AsyncSession.execute, statements

    async def counted(session: AsyncSession, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        result = await execute(session, *arguments, **options)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    AsyncSession.execute = counted  # type: ignore[method-assign, assignment]


async def run(step: Step, database_url: str, valkey_url: str, org: str, at: datetime) -> None:
    database, valkey = Database(database_url), connect(valkey_url)
    await step(database, valkey, org, at)
    await valkey.aclose()
    await database.close()


def main(name: str, database_url: str, valkey_url: str, org: str, at: str) -> int:
    """How often it died. Nothing is connected yet when a child is made, so children share nothing."""
    for deaths in range(DEATHS_MAX):
        child = os.fork()
        if child == 0:
            die_after(deaths + 1)
            asyncio.run(run(STEPS[name], database_url, valkey_url, org, datetime.fromisoformat(at)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, f"{name} failed after {deaths} deaths"
            return deaths
    raise AssertionError(f"{name} never got through")


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
