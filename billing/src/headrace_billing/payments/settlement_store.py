"""Stripe's balance transactions that are in our books: each once, with whose money it was."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ledger import store as ledger
from headrace_billing.payments.cash import settlement_transactions
from headrace_billing.payments.money_seen import Settlement
from headrace_billing.payments.top_up import TopUp


async def settle(
    session: AsyncSession, top_up: TopUp, settlement: Settlement, *, moved_minor: int, at: datetime
) -> None:
    """Posts Stripe's fee and conversion of what our own posting moved; again changes nothing."""
    fresh = await session.execute(
        INSERT,
        {
            "id": settlement.id,
            "top_up": top_up.id,
            "org": top_up.org,
            "currency": settlement.currency,
            "moved_minor": moved_minor,
            "moved_currency": top_up.currency,
            "amount_minor": settlement.amount_minor,
            "fee_minor": settlement.fee_minor,
            "at": at,
        },
    )
    if fresh.first() is not None:
        await ledger.post_all(
            session,
            settlement_transactions(settlement, moved_minor=moved_minor, currency=top_up.currency, at=at),
        )


INSERT = text("""
    INSERT INTO stripe_settlements (id, top_up, org, moved_minor, moved_currency, currency, amount_minor, fee_minor,
                                    recorded_at)
    VALUES (:id, :top_up, :org, :moved_minor, :moved_currency, :currency, :amount_minor, :fee_minor, :at)
    ON CONFLICT (id) DO NOTHING RETURNING id
""")
