"""A wallet with credit, for tests that care about what happens to it next."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.ledger import store, wallets
from headrace_billing.ledger.lots import charge
from headrace_billing.ledger.transaction import (
    LOT_KINDS,
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ORG, WALLET, USD = "org_a", "wal_a", "USD"


async def open_wallet(session: AsyncSession, wallet: str = WALLET, org: str = ORG) -> None:
    # Where accounts exist, a wallet's organisation must.
    await session.execute(
        text("""
            DO $$ BEGIN
              IF to_regclass('organizations') IS NOT NULL THEN
                INSERT INTO organizations (id, name, created_at) VALUES ('org_a', 'A', now()) ON CONFLICT DO NOTHING;
              END IF;
            END $$
        """)
    )
    await wallets.open_wallet(session, wallet=wallet, org=org, currency=USD, at=NOW)


async def grant(
    session: AsyncSession,
    amount_nanos: int,
    *,
    lot: str,
    wallet: str = WALLET,
    kind: AccountKind = AccountKind.WALLET_PAID,
    priority: int = 100,
) -> None:
    assert kind in LOT_KINDS
    await wallets.open_lot(
        session,
        lot=lot,
        wallet=wallet,
        kind=kind,
        currency=USD,
        granted_nanos=amount_nanos,
        at=NOW,
        priority=priority,
    )
    await store.post(
        session,
        Transaction(
            key=f"grant:{lot}",
            kind=TransactionKind.CREDIT_GRANTED,
            currency=USD,
            occurred_at=NOW,
            postings=(
                Posting(business(AccountKind.CASH_CLEARING, USD), amount_nanos),
                Posting(Account(kind, wallet, USD), -amount_nanos, lot),
            ),
        ),
    )


async def use(database: Database, amount_nanos: int, *, key: str, wallet: str = WALLET) -> None:
    """Charges the wallet for usage (negative gives usage back), in a transaction of its own."""
    async with database.begin() as session:
        holdings = (await wallets.lock(session, [wallet]))[wallet]
        burnt = charge(holdings, amount_nanos, project=None)
        await store.post(
            session,
            Transaction(
                key=key,
                kind=TransactionKind.USAGE,
                currency=USD,
                occurred_at=NOW,
                postings=(*burnt, Posting(Account(AccountKind.WALLET_APPLIED, ORG, USD), -amount_nanos)),
            ),
        )


async def remaining(session: AsyncSession) -> dict[str, int]:
    rows = await session.execute(text("SELECT id, remaining_nanos FROM credit_lots"))
    return {row.id: int(row.remaining_nanos) for row in rows}
