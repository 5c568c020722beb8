"""Telling Stripe Tax of invoices that are final and of what was credited of them, so that its reports say what was sold.

Unasked, after the fact, and as often as it takes: each has its invoice's or credit note's id for a reference, so that
whoever died between the answer and our note of it tells nothing twice.
"""

from datetime import datetime, timedelta

import structlog

from headrace_billing.database import Database
from headrace_billing.invoicing import tax_filing_store
from headrace_billing.invoicing.tax_filing_store import Filing, FilingKind
from headrace_billing.payments.access import PaymentRefused, PaymentsUnavailable
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.tax_calls import Filed
from headrace_billing.payments.top_up import next_look

BATCH_MAX = 20

SALE_WAITS = timedelta(seconds=5)
"""A reversal follows its sale, which is told in the same breath."""

log = structlog.get_logger()


async def file_due(database: Database, stripe: Stripe, *, now: datetime) -> int:
    """How many were looked at."""
    async with database.begin() as session:
        claimed = await tax_filing_store.claim_due(session, now=now, limit=BATCH_MAX)
    for filing in claimed:
        await _file(database, stripe, filing, now=now)
    return len(claimed)


async def _file(database: Database, stripe: Stripe, filing: Filing, *, now: datetime) -> None:
    try:
        filed = await _told(database, stripe, filing)
    except PaymentsUnavailable:
        async with database.begin() as session:
            await tax_filing_store.look_again(session, filing.id, at=now + next_look(now - filing.created_at))
    except PaymentRefused as refusal:
        log.error("tax_filing_refused", filing=filing.id, invoice=filing.invoice, reason=refusal.reason)  # noqa: TRY400
        async with database.begin() as session:
            await tax_filing_store.refused(session, filing.id, reason=refusal.reason)
    else:
        async with database.begin() as session:
            if filed is None:
                await tax_filing_store.look_again(session, filing.id, at=now + SALE_WAITS)
            else:
                await tax_filing_store.filed(session, filing.id, filed_as=filed.id, line_item=filed.line_item)


async def _told(database: Database, stripe: Stripe, filing: Filing) -> Filed | None:
    """Null while the sale that is reversed was not told yet. Raises `PaymentsUnavailable`, `PaymentRefused`."""
    if filing.kind is FilingKind.SALE:
        assert filing.calculation is not None, f"{filing.id} has no calculation"
        return await stripe.tax.file_sale(reference=filing.id, calculation=filing.calculation)
    async with database.begin() as session:
        sale = await tax_filing_store.sale_of(session, filing.invoice)
    if sale.is_refused:
        raise PaymentRefused("sale_not_filed")
    if sale.filed_as is None or sale.line_item is None:
        return None
    return await stripe.tax.file_reversal(
        reference=filing.id,
        sale=sale.filed_as,
        line_item=sale.line_item,
        net_minor=filing.net_minor,
        tax_minor=filing.tax_minor,
    )
