"""Comparing with Stripe, once an hour: the last days anew each time, since events and books may come late."""

from datetime import datetime, timedelta

import structlog

from headrace_billing.payments import reconciliation_store
from headrace_billing.payments.access import PaymentRefused
from headrace_billing.payments.reconciliation import Posted, compare, missing
from headrace_billing.payments.reconciliation_store import Last
from headrace_billing.payments.till import Till

# Longer than Stripe repeats a webhook (three days), and than a bank holiday weekend without a worker.
OVERLAP = timedelta(days=5)
# As far back as anybody can dispute.
BEGINNING = timedelta(days=180)

log = structlog.get_logger()


async def reconcile_payments(till: Till, *, now: datetime) -> int:
    """How many differences there are. Raises `PaymentsUnavailable`, and leaves the comparison before as it was."""
    async with till.database.begin() as session:
        last = await reconciliation_store.last(session)
    since = since_when(last, now=now)
    booked = await till.stripe.balance_transactions(since=int(since.timestamp()))
    async with till.database.snapshot() as session:
        posted = await reconciliation_store.posted_by_id(session, [one.id for one in booked])
        ours = await reconciliation_store.posted_between(session, since, now)
    found = compare(booked, posted, now=now)
    listed = {one.id for one in booked}
    for one in ours:
        if one.id not in listed and not await _is_at_stripe(till, one):
            found.differences.append(missing(one))
    async with till.database.begin() as session:
        checks = await reconciliation_store.cash_checks(session)
        await reconciliation_store.keep(session, found, since=since, as_of=now, checks=checks)
    if found.differences or not all(check["holds"] for check in checks):
        log.error("payments_differ", differences=len(found.differences))
    return len(found.differences)


def since_when(last: Last, *, now: datetime) -> datetime:
    """Differences that stand are looked at again, with whatever came to them since."""
    if last.as_of is None:
        return now - BEGINNING
    return max(now - BEGINNING, min(last.as_of - OVERLAP, last.oldest_difference or last.as_of))


async def _is_at_stripe(till: Till, ours: Posted) -> bool:
    """Booked there before the time that was listed, and heard of here within it."""
    try:
        booked = await till.stripe.balance_transaction(ours.id)
    except PaymentRefused:
        return False
    return ours.fits(booked)
