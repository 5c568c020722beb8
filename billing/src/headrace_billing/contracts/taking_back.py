"""What a credit note takes back of a commitment, and the tax that its price held, is deferred no longer: it leaves the books here.

A credit note takes the period's lot with it, as far as that is left. The rest, and tax, come off revenue: what they are of
has been used, or will be.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger import wallets
from headrace_billing.ledger.lots import Lot
from headrace_billing.ledger.transaction import (
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
)

BATCH_MAX = 100


@dataclass(frozen=True, slots=True)
class Deferral:
    charge: str
    source: str
    currency: str
    nanos: int
    """Taken from what was deferred."""


def taken_back(deferral: Deferral, *, lot: Lot | None, at: datetime) -> Transaction:
    """`lot` is what pays of it what it has left; null for tax, and where there is none."""
    from_lot = 0 if lot is None else min(max(deferral.nanos, 0), lot.remaining_nanos)
    deferred = business(AccountKind.DEFERRED, deferral.currency)
    revenue = business(AccountKind.REVENUE_COMMITMENTS, deferral.currency)
    postings = move(deferral.nanos - from_lot, debit=revenue, credit=deferred)
    if lot is not None and from_lot:
        postings = (*postings, Posting(lot.account, from_lot, lot.id), Posting(deferred, -from_lot))
    return Transaction(
        key=f"commitment-taken-back:{deferral.charge}:{deferral.source}",
        kind=TransactionKind.COMMITMENT_TAKEN_BACK,
        currency=deferral.currency,
        occurred_at=at,
        postings=postings,
        memo={"charge": deferral.charge, "source": deferral.source},
    )


async def take_back(database: Database, *, now: datetime) -> bool:
    """A batch; whether there may be more."""
    async with database.begin() as session:
        rows = (await session.execute(SELECT_DEFERRALS, {"limit": BATCH_MAX})).all()
        held = await wallets.lock(session, {row.wallet for row in rows if row.wallet is not None})
        for row in rows:
            deferral = Deferral(row.charge, row.source, row.currency, -int(row.nanos))
            lots = {lot.id: lot for lot in held[row.wallet].lots} if row.wallet is not None else {}
            lot = None if row.is_tax else lots.get(row.lot)
            await ledger.post(session, taken_back(deferral, lot=lot, at=now))
            if lot is not None:
                # The next one finds what this one has left.
                held |= await wallets.lock(session, [row.wallet])
    return len(rows) == BATCH_MAX


SELECT_DEFERRALS = text("""
    SELECT d.charge, d.source, d.nanos, c.currency, l.lot, o.wallet,
           EXISTS (SELECT FROM invoices i WHERE i.id = d.source) AS is_tax
    FROM charges c JOIN charge_deferrals d ON d.charge = c.id
    LEFT JOIN contract_lots l
      ON l.rolled_from IS NULL AND c.reference = 'contract:' || l.contract || ':commitment:' || l.period
    LEFT JOIN contracts o ON o.id = l.contract
    WHERE c.recognition = 'elsewhere'
      AND NOT EXISTS (
        SELECT FROM ledger_transactions t WHERE t.key = 'commitment-taken-back:' || d.charge || ':' || d.source)
    ORDER BY d.charge, d.source LIMIT :limit
""")
