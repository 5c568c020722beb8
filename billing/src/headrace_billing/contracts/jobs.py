"""What contracts do unasked: periods turn, what is due is charged, thresholds are told of, missed service is credited.

Each contract is one transaction under its lock. Whoever dies in it has done nothing, and the next finds it due.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.contracts import period_store, store
from headrace_billing.contracts.assessing import (
    LATE_FOR,
    SETTLES_AFTER,
    Fees,
    charge_differences,
    fees_by_month,
)
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.crediting import credit_months
from headrace_billing.contracts.periods import settle_rest, turn
from headrace_billing.contracts.standing import standing
from headrace_billing.contracts.store import Looks
from headrace_billing.contracts.taking_back import take_back
from headrace_billing.contracts.term import month_of, month_span
from headrace_billing.database import Database
from headrace_billing.intervals import LATEST
from headrace_billing.ledger import spendable

BATCH_MAX = 20
DUES_EVERY = timedelta(hours=1)
LEVELS_EVERY = timedelta(days=1)
"""A look reads a deployment's requests of whole months."""
ALERTS_EVERY = timedelta(minutes=5)


async def turn_periods(database: Database, valkey: Redis, *, now: datetime) -> bool:
    """One turn of each contract that has one due; whether there may be more."""
    async with database.begin() as session:
        due = await store.due_to_turn(session, now=now, limit=BATCH_MAX)
    for contract in due:
        async with database.begin() as session:
            turned = await turn(session, await store.lock(session, contract), now=now)
        if turned is not None:
            # The commitment first: its projects would find an empty wallet.
            for wallet in turned.wallets:
                await spendable.push_soon(database, valkey, wallet)
            await outbox.push(database, valkey, turned.records)
    return bool(due)


async def assess_contracts(database: Database, *, now: datetime) -> bool:
    """Looks at a batch of contracts; whether there may be more."""
    while await take_back(database, now=now):
        pass
    async with database.begin() as session:
        due = await store.due_to_assess(session, now=now, limit=BATCH_MAX)
    for contract in due:
        async with database.begin() as session:
            await _assess(session, await store.lock(session, contract), now=now)
    return len(due) == BATCH_MAX


async def _assess(session: AsyncSession, contract: Contract, *, now: datetime) -> None:
    looks = await store.looks(session, contract.id)
    if looks.dues_at > now:
        return
    # As late as the look itself came, so that nothing is left out after an outage.
    since = min(looks.dues_at, looks.levels_at) - LATE_FOR
    fees = await fees_by_month(session, contract, since=since, until=now)
    await charge_differences(session, contract, fees, since=since, now=now)
    levels_at = looks.levels_at
    if levels_at <= now:
        await credit_months(session, contract, fees, since=since, now=now)
        settles = month_span(month_of(now - SETTLES_AFTER)).end + SETTLES_AFTER
        levels_at = min(now + LEVELS_EVERY, settles)
    await _tell_thresholds(session, contract, fees, now=now)
    if contract.closed_at is not None and contract.wallet is not None:
        await settle_rest(session, contract, now=now)
    await store.look_again(session, contract.id, Looks(_next(contract, now), levels_at))


async def _tell_thresholds(
    session: AsyncSession, contract: Contract, fees: Mapping[date, Fees], *, now: datetime
) -> None:
    """Those that the running period has reached; each is told of once."""
    index = contract.period_at(now)
    if contract.terms(index).commitment is None or now >= contract.term.ends_at:
        return
    periods = await period_store.periods(session, contract.id)
    lots = await period_store.lots(session, contract.id)
    # A period that no turn has begun yet has no commitment that could be used.
    if index < len(periods):
        found = standing(contract, fees, periods, lots, index=index, now=now)
        await period_store.tell(
            session, contract.id, index, found.thresholds, used_nanos=found.used_nanos, at=now
        )


def _next(contract: Contract, now: datetime) -> datetime:
    """Soon while thresholds may be reached; then for as long as usage may come late, and never again."""
    if now < contract.term.ends_at:
        return now + ALERTS_EVERY
    if now < contract.term.ends_at + LATE_FOR:
        return now + DUES_EVERY
    return LATEST
