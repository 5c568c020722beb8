"""Grants in Postgres with their lineage: where the credit came from, and everything that became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.ledger import store, wallets
from headrace_billing.ledger.grant import Grant, GrantKind, GrantSource, grant_transactions
from headrace_billing.ledger.lots import Holdings
from headrace_billing.ledger.transaction import AccountKind, TransactionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A grant as it stands now."""

    id: str
    wallet: str
    org: str
    currency: str
    kind: GrantKind
    source: GrantSource
    reason: str
    scope: str | None
    scope_model: str | None
    priority: int
    granted_at: datetime
    expires_at: datetime | None
    granted_nanos: int
    remaining_nanos: int


@dataclass(frozen=True, slots=True)
class Movement:
    """Why so much went into the grant or (negative) out of it."""

    kind: TransactionKind
    nanos: int


async def give(session: AsyncSession, grant: Grant, holdings: Holdings) -> None:
    """Opens the lot and fills it. Raises `BalanceTooLarge` before anything is done."""
    transactions = grant_transactions(grant, holdings)
    await wallets.open_lot(
        session,
        lot=grant.id,
        wallet=grant.wallet,
        kind=grant.account.kind,
        currency=grant.currency,
        granted_nanos=grant.amount_nanos,
        at=grant.at,
        expires_at=grant.expires_at,
        scope=grant.scope,
        scope_model=grant.scope_model,
        priority=grant.priority,
        source=grant.source,
        reason=grant.reason,
    )
    await store.post_all(session, transactions)


async def granted(session: AsyncSession, grant: str) -> Granted:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_GRANT, {"id": grant})).first()
    if row is None:
        raise NotFound("credit grant", grant)
    return _granted(row)


async def page(session: AsyncSession, *, wallet: str | None, after: str, limit: int) -> Sequence[Granted]:
    rows = await session.execute(SELECT_GRANTS, {"wallet": wallet, "after": after, "limit": limit})
    return [_granted(row) for row in rows]


async def movements(session: AsyncSession, grant: str) -> list[Movement]:
    """By why; they add up to what is left."""
    rows = await session.execute(SELECT_MOVEMENTS, {"id": grant})
    return [Movement(TransactionKind(row.kind), int(row.nanos)) for row in rows]


def _granted(row: Row[tuple[object, ...]]) -> Granted:
    return Granted(
        id=row.id,
        wallet=row.wallet,
        org=row.org,
        currency=row.currency,
        kind=GrantKind.PAID if row.kind == AccountKind.WALLET_PAID else GrantKind.PROMO,
        source=GrantSource(row.source),
        reason=row.reason,
        scope=row.scope,
        scope_model=row.scope_model,
        priority=row.priority,
        granted_at=row.opened_at,
        expires_at=row.expires_at,
        granted_nanos=int(row.granted_nanos),
        remaining_nanos=int(row.remaining_nanos),
    )


GRANTS = """
    SELECT l.id, l.wallet, w.org, l.currency, l.kind, l.source, l.reason, l.scope, l.scope_model, l.priority,
           l.opened_at, l.expires_at, l.granted_nanos, l.remaining_nanos
    FROM credit_lots l JOIN wallets w ON w.id = l.wallet
    WHERE l.kind <> 'commitment'
"""

SELECT_GRANT = text(f"{GRANTS} AND l.id = :id")

SELECT_GRANTS = text(f"""
    {GRANTS} AND l.id > :after AND (CAST(:wallet AS text) IS NULL OR l.wallet = :wallet)
    ORDER BY l.id LIMIT :limit
""")

SELECT_MOVEMENTS = text("""
    SELECT t.kind, -sum(p.amount_nanos) AS nanos
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE p.lot = :id GROUP BY t.kind ORDER BY min(p.id)
""")
