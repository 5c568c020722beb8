"""Automatic top-ups in Postgres."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.ledger import notices
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.payments.auto_top_up import AutoState, AutoTopUp, Recent, month_start


async def save(session: AsyncSession, auto: AutoTopUp) -> None:
    """Also switches on again what was stopped."""
    await session.execute(
        UPSERT,
        {
            "wallet": auto.wallet,
            "org": auto.org,
            "currency": auto.currency,
            "threshold_nanos": auto.threshold_nanos,
            "amount_minor": auto.amount_minor,
            "card": auto.card,
            "ceiling": auto.monthly_ceiling_minor,
        },
    )


async def find(session: AsyncSession, wallet: str, *, lock: bool = False) -> AutoTopUp:
    """Raises `NotFound`."""
    row = (await session.execute(LOCK if lock else SELECT, {"wallet": wallet})).mappings().first()
    if row is None:
        raise NotFound("automatic top-up of", wallet)
    return _auto(row)


async def remove(session: AsyncSession, wallet: str) -> None:
    """Raises `NotFound`. What was started goes on."""
    if (await session.execute(DELETE, {"wallet": wallet})).first() is None:
        raise NotFound("automatic top-up of", wallet)


async def stop(session: AsyncSession, wallet: str, *, reason: str, at: datetime) -> None:
    """Does nothing where it is stopped already."""
    row = (await session.execute(STOP, {"wallet": wallet, "reason": reason})).first()
    if row is not None:
        content = {"wallet": wallet, "reason": reason}
        await notices.tell(session, org=row.org, kind=NoticeKind.AUTO_TOP_UP_STOPPED, at=at, content=content)


async def stop_all(
    session: AsyncSession, *, org: str, reason: str, at: datetime, card: str | None = None
) -> None:
    """All of the organisation's, or those by one card."""
    for wallet in (await session.execute(SELECT_ON_OF, {"org": org, "card": card})).scalars().all():
        await stop(session, wallet, reason=reason, at=at)


async def below_threshold(session: AsyncSession, *, limit: int) -> list[str]:
    """Wallets that may be due. Which are is decided under their locks."""
    return list((await session.execute(SELECT_BELOW, {"limit": limit})).scalars())


async def recent(session: AsyncSession, wallet: str, *, now: datetime) -> Recent:
    row = (await session.execute(SELECT_RECENT, {"wallet": wallet, "month": month_start(now)})).one()
    return Recent(row.waiting, row.last_at, int(row.this_month))


async def ceiling_told(session: AsyncSession, wallet: str, *, at: datetime) -> None:
    await session.execute(SET_CEILING_TOLD, {"wallet": wallet, "at": at})


def _auto(row: RowMapping) -> AutoTopUp:
    return AutoTopUp(
        **{**row, "threshold_nanos": int(row["threshold_nanos"]), "state": AutoState(row["state"])}
    )


COLUMNS = """
    wallet, org, currency, threshold_nanos, amount_minor, card, monthly_ceiling_minor, state, stopped_reason,
    ceiling_told_at
"""

UPSERT = text("""
    INSERT INTO auto_top_ups (wallet, org, currency, threshold_nanos, amount_minor, card, monthly_ceiling_minor, state)
    VALUES (:wallet, :org, :currency, :threshold_nanos, :amount_minor, :card, :ceiling, 'on')
    ON CONFLICT (wallet) DO UPDATE
    SET threshold_nanos = excluded.threshold_nanos, amount_minor = excluded.amount_minor, card = excluded.card,
        monthly_ceiling_minor = excluded.monthly_ceiling_minor, state = 'on', stopped_reason = NULL,
        ceiling_told_at = NULL
""")

SELECT = text(f"SELECT {COLUMNS} FROM auto_top_ups WHERE wallet = :wallet")
LOCK = text(f"SELECT {COLUMNS} FROM auto_top_ups WHERE wallet = :wallet FOR UPDATE")
DELETE = text("DELETE FROM auto_top_ups WHERE wallet = :wallet RETURNING wallet")

STOP = text("""
    UPDATE auto_top_ups SET state = 'stopped', stopped_reason = :reason
    WHERE wallet = :wallet AND state = 'on' RETURNING org
""")

SELECT_ON_OF = text("""
    SELECT wallet FROM auto_top_ups
    WHERE org = :org AND state = 'on' AND (CAST(:card AS text) IS NULL OR card = :card) ORDER BY wallet
""")

SELECT_BELOW = text("""
    SELECT a.wallet FROM auto_top_ups a
    WHERE a.state = 'on' AND (
      coalesce((SELECT sum(l.remaining_nanos) FROM credit_lots l WHERE l.wallet = a.wallet), 0)
      - coalesce((SELECT b.amount_nanos FROM ledger_balances b
                  WHERE b.kind = 'overdraft' AND b.owner = a.wallet AND b.currency = a.currency), 0)
      < a.threshold_nanos)
      AND NOT EXISTS (SELECT FROM top_ups t
                      WHERE t.wallet = a.wallet AND t.way = 'auto' AND t.state IN ('creating', 'open'))
    ORDER BY a.wallet LIMIT :limit
""")

SELECT_RECENT = text("""
    SELECT coalesce(bool_or(state IN ('creating', 'open')), false) AS waiting, max(created_at) AS last_at,
           coalesce(sum(amount_minor) FILTER (
             WHERE created_at >= :month AND state IN ('creating', 'open', 'paid', 'quarantined')), 0) AS this_month
    FROM top_ups WHERE wallet = :wallet AND way = 'auto'
""")

SET_CEILING_TOLD = text("UPDATE auto_top_ups SET ceiling_told_at = :at WHERE wallet = :wallet")
