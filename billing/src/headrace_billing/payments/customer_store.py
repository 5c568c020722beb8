"""Which of Stripe's customers an organisation is."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def customer_of(session: AsyncSession, org: str) -> str | None:
    return (await session.execute(SELECT, {"org": org})).scalar_one_or_none()


async def keep(session: AsyncSession, *, org: str, customer: str) -> str:
    """The one that is kept: whoever came first has the say."""
    kept: str = (await session.execute(INSERT, {"org": org, "customer": customer})).scalar_one()
    return kept


async def default_card(session: AsyncSession, org: str) -> str | None:
    """What pays the organisation's invoices."""
    return (await session.execute(SELECT_CARD, {"org": org})).scalar_one_or_none()


async def set_default_card(session: AsyncSession, org: str, card: str | None) -> None:
    await session.execute(SET_CARD, {"org": org, "card": card})


async def drop_default_card(session: AsyncSession, org: str, card: str) -> None:
    """Where it was that one."""
    await session.execute(DROP_CARD, {"org": org, "card": card})


SELECT = text("SELECT customer FROM stripe_customers WHERE org = :org")

INSERT = text("""
    INSERT INTO stripe_customers (org, customer) VALUES (:org, :customer)
    ON CONFLICT (org) DO UPDATE SET org = excluded.org RETURNING customer
""")

SELECT_CARD = text("SELECT default_card FROM stripe_customers WHERE org = :org")
SET_CARD = text("UPDATE stripe_customers SET default_card = :card WHERE org = :org")
DROP_CARD = text("""
    UPDATE stripe_customers SET default_card = NULL WHERE org = :org AND default_card = :card
""")
