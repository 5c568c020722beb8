"""A contract's rates: its organisation's price list, multiplied from the beginning of each period on and put back at its end.

The lists are published ahead, each with the time from which it holds (`rating.publishing`), so a rate changes with the
very request that its period begins with.
"""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.term import Term
from headrace_billing.contracts.terms import MILLION
from headrace_billing.rating import publishing, store
from headrace_billing.rating.price import SCALE
from headrace_billing.rating.store import Overrides


async def publish_rates(
    session: AsyncSession, contract: Contract, *, now: datetime, before: Term | None = None
) -> bool:
    """Whether there was any rate to publish. `before` is the term as it was, where it was longer.

    Raises `PriceInvalid` where the currency has no prices yet, or a price times a rate has too many places.
    """
    if not any(version.terms.rates_millionths for version in contract.versions):
        return False
    await publishing.lock(session)
    term, place = contract.term, {"currency": contract.currency, "org": contract.organization}
    begins = max(contract.signed_at, term.starts_at)
    own = await store.overrides(session, **place, at=begins - timedelta(microseconds=1)) or Overrides()
    last: int | None = None
    for index in range(term.periods):
        rate, span = contract.terms(index).rate_millionths(index), term.period(index)
        at = max(span.start, contract.signed_at)
        # What has begun keeps what was published for it.
        if rate != last and at >= now:
            await _publish(session, contract, own, rate, now=now, at=at)
        last = rate
    for index in range(term.periods, (before or term).periods + 1):
        at = (
            (before or term).ends_at
            if index == (before or term).periods
            else (before or term).period(index).start
        )
        await _publish(session, contract, own, None, now=now, at=at)
    return True


async def _publish(
    session: AsyncSession,
    contract: Contract,
    own: Overrides,
    rate: int | None,
    *,
    now: datetime,
    at: datetime,
) -> None:
    times = own.inherited_times if rate is None else rate * (SCALE // MILLION)
    await publishing.publish_overrides(
        session,
        currency=contract.currency,
        org=contract.organization,
        overrides=Overrides(own.models, times),
        at=now,
        effective_at=at,
        large_changes=True,
    )
