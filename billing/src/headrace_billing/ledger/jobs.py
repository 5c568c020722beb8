"""Credit that has expired leaves its lot: paid credit as breakage, promotional credit back to where it came from.

What a contract has committed ends by its own rules (`contracts.periods`).
"""

from datetime import datetime

from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.ledger import store, wallets
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)

EXPIRY_BATCH_MAX = 100


async def expire_lots(database: Database, *, now: datetime) -> int:
    """Posts the expiry of a batch of lots; how many. A reversal may fill a lot once more: then it expires once more."""
    async with database.begin() as session:
        due = (await session.execute(SELECT_DUE, {"now": now, "limit": EXPIRY_BATCH_MAX})).all()
        held = await wallets.lock(session, {row.wallet for row in due})
        expired = {row.id for row in due}
        await store.post_all(
            session,
            [
                Transaction(
                    key=f"expiry:{lot.id}:{lot.last_burnt}:{lot.remaining_nanos}",
                    kind=TransactionKind.CREDIT_EXPIRED,
                    currency=lot.currency,
                    occurred_at=now,
                    postings=(
                        Posting(lot.account, lot.remaining_nanos, lot.id),
                        Posting(_gains(lot.account), -lot.remaining_nanos),
                    ),
                    memo={"lot": lot.id},
                )
                for holdings in held.values()
                for lot in holdings.lots
                if lot.id in expired and lot.remaining_nanos
            ],
        )
    return len(due)


def _gains(lot: Account) -> Account:
    kind = AccountKind.BREAKAGE if lot.kind is AccountKind.WALLET_PAID else AccountKind.PROMO_CONTRA
    return business(kind, lot.currency)


SELECT_DUE = text("""
    SELECT id, wallet FROM credit_lots
    WHERE expires_at <= :now AND remaining_nanos > 0 AND kind <> 'commitment' ORDER BY expires_at LIMIT :limit
""")
