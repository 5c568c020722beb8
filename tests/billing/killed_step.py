"""A job that dies of SIGKILL after its first statement, then after its second, and so on until it gets through.

Run as a process of its own: `killed_step STEP DATABASE_URL VALKEY_URL ORGANIZATION TIME`; prints how often it died.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any

import psycopg
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounting.closing import close_month
from headrace_billing.contracts.jobs import assess_contracts, turn_periods
from headrace_billing.database import Database
from headrace_billing.invoicing.crediting import draft, issue
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.jobs import finalise_due
from headrace_billing.invoicing.month import close_months
from headrace_billing.invoicing.settlement import Consent
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.ledger.notices import tell_low_balances
from headrace_billing.plans.jobs import pass_time
from headrace_billing.rating.jobs import put_into_force
from headrace_billing.valkey import connect
from headrace_billing.webhooks import queue_store
from headrace_billing.webhooks.jobs import Courier
from headrace_billing.webhooks.sending import Sender
from tests.support.patience import wait_until

DEATHS_MAX = 120

MORTAL = "dies in the midst of its work"
"""By which Postgres knows the sessions of such a process."""

BY_TWO = Consent("Ada", "Grace")


async def _take_back(database: Database, at: datetime) -> None:
    async with database.begin() as session:
        invoice = (await session.execute(text("SELECT id FROM invoices"))).scalar_one()
        whole = await draft(session, invoice, None, void=True)
        await issue(session, whole, reason="wrong", consent=BY_TWO, now=at)


async def _close_books(database: Database, at: datetime) -> None:
    async with database.begin() as session:
        await close_month(session, database, at.date() - timedelta(days=30), BY_TWO, now=at)


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
    "invoices": lambda database, _, _org, at: finalise_due(Books(database, TaxTable()), now=at),
    "credit_notes": lambda database, _, _org, at: _take_back(database, at),
    "accounting": lambda database, _, _org, at: _close_books(database, at),
    "expiry": lambda database, _, _org, at: expire_lots(database, now=at),
    "alerts": lambda database, _, _org, at: tell_low_balances(database, now=at),
    "subscriptions": lambda database, valkey, _, at: pass_time(database, valkey, now=at),
    "prices": lambda database, valkey, _, at: put_into_force(database, valkey, now=at),
    "contract_periods": lambda database, valkey, _org, at: turn_periods(database, valkey, now=at),
    "contract_dues": lambda database, _, _org, at: assess_contracts(database, now=at + timedelta(hours=6)),
    "webhooks": lambda database, _, _org, at: deliver(database, at),
}


INVOICED_BEFORE = frozenset({"credit_notes", "accounting"})
"""Steps that need an invoice; it is made without a death."""


class Fuse:
    """Kills the process when it has burnt down."""

    def __init__(self, length: int) -> None:
        self.left = length

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def die_after(statements: int) -> Fuse:
    """The fuse, for whatever else is to count as a statement."""
    execute, fuse = AsyncSession.execute, Fuse(statements)

    async def counted(session: AsyncSession, *arguments: Any, **options: Any) -> Any:
        result = await execute(session, *arguments, **options)
        fuse.burn()
        return result

    AsyncSession.execute = counted  # type: ignore[method-assign, assignment]
    return fuse


async def run(step: Step, database_url: str, valkey_url: str, org: str, at: datetime) -> None:
    database, valkey = Database(database_url), connect(valkey_url)
    await step(database, valkey, org, at)
    await valkey.aclose()
    await database.close()


def main(name: str, database_url: str, valkey_url: str, org: str, at: str) -> int:
    def run_of(step: str) -> None:
        asyncio.run(run(STEPS[step], database_url, valkey_url, org, datetime.fromisoformat(at)))

    def once(deaths: int) -> None:
        die_after(deaths + 1)
        run_of(name)

    if name in INVOICED_BEFORE:
        assert survives("invoices", lambda: run_of("invoices")), "the invoice before it could not be made"
    return until_through(name, once, database_url=database_url)


def until_through(name: str, once: Callable[[int], None], *, database_url: str) -> int:
    """How often it died. Nothing is connected yet when a child is made, so children share nothing."""
    # Makes the driver's modules load here, and not in each child anew.
    Database("postgresql://nobody@127.0.0.1:1/nowhere")
    for deaths in range(DEATHS_MAX):
        if survives(name, partial(once, deaths)):
            return deaths
        wait_until(lambda: not has_sessions(database_url))
    raise AssertionError(f"{name} never got through")


def has_sessions(database_url: str) -> bool:
    """Whether Postgres has yet to notice that the last one died: what that one had locked the next would pass over."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s)", [MORTAL]
        )
        return bool(found.fetchone() == (True,))


def survives(name: str, work: Callable[[], None]) -> bool:
    """In a process of its own; anything but success and death fails."""
    child = os.fork()
    if child == 0:
        os.environ["PGAPPNAME"] = MORTAL
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0, f"{name} failed"
    return True


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
