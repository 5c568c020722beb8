"""Periods and their lots in Postgres. Whoever writes here holds the contract's lock, or the lock of its wallet."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.contracts.breakage import Ended
from headrace_billing.invoicing.usage import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    index: int
    span: Span
    version: int
    committed_nanos: int
    closed_at: datetime | None
    broken_nanos: int
    paid_nanos: int
    """Of what was broken, for usage that came late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodLot:
    """A lot and what became of it: granted = used + left + rolled + broken + taken back."""

    id: str
    period: int
    rolled_from: str | None
    expires_at: datetime
    granted_nanos: int
    used_nanos: int
    left_nanos: int
    rolled_nanos: int
    broken_nanos: int
    taken_back_nanos: int
    """By credit notes."""


async def open_period(
    session: AsyncSession,
    contract: str,
    *,
    index: int,
    span: Span,
    version: int,
    committed_nanos: int,
    at: datetime,
) -> None:
    await session.execute(
        INSERT_PERIOD,
        {
            "contract": contract,
            "index": index,
            "starts_at": span.start,
            "ends_at": span.end,
            "version": version,
            "committed": committed_nanos,
            "at": at,
        },
    )


async def close_period(session: AsyncSession, contract: str, index: int, *, at: datetime) -> None:
    await session.execute(CLOSE_PERIOD, {"contract": contract, "index": index, "at": at})


async def add_broken(session: AsyncSession, contract: str, index: int, nanos: int) -> None:
    await session.execute(ADD_BROKEN, {"contract": contract, "index": index, "nanos": nanos})


async def periods(session: AsyncSession, contract: str) -> list[Period]:
    """Those that have begun."""
    rows = await session.execute(SELECT_PERIODS, {"contract": contract})
    return [
        Period(
            index=row.number,
            span=Span(row.starts_at, row.ends_at),
            version=row.version,
            committed_nanos=int(row.committed_nanos),
            closed_at=row.closed_at,
            broken_nanos=int(row.broken_nanos),
            paid_nanos=int(row.paid_nanos),
        )
        for row in rows
    ]


async def add_lot(
    session: AsyncSession, lot: str, *, contract: str, period: int, rolled_from: str | None
) -> None:
    await session.execute(
        INSERT_LOT, {"lot": lot, "contract": contract, "period": period, "rolled_from": rolled_from}
    )


async def lots(session: AsyncSession, contract: str) -> list[PeriodLot]:
    """All of them, as their postings say."""
    rows = await session.execute(SELECT_LOTS, {"contract": contract})
    return [
        PeriodLot(
            id=row.lot,
            period=row.period,
            rolled_from=row.rolled_from,
            expires_at=row.expires_at,
            granted_nanos=int(row.granted_nanos),
            used_nanos=int(row.used_nanos),
            left_nanos=int(row.left_nanos),
            rolled_nanos=int(row.rolled_nanos),
            broken_nanos=int(row.broken_nanos),
            taken_back_nanos=int(row.taken_back_nanos),
        )
        for row in rows
    ]


async def tell(
    session: AsyncSession,
    contract: str,
    index: int,
    percents: Iterable[int],
    *,
    used_nanos: int,
    at: datetime,
) -> None:
    """Notes that so many percent of a period's commitment are used, once each."""
    rows = [
        {"contract": contract, "period": index, "percent": percent, "used": used_nanos, "at": at}
        for percent in percents
    ]
    if rows:
        await session.execute(INSERT_ALERT, rows)


async def ended(session: AsyncSession, places: Iterable[tuple[str, date]]) -> dict[tuple[str, date], Ended]:
    """By wallet and month: the closed periods that usage of then comes late for. The wallets must be locked."""
    wanted = sorted(set(places))
    rows = await session.execute(
        SELECT_ENDED, {"wallets": [wallet for wallet, _ in wanted], "months": [month for _, month in wanted]}
    )
    return {
        (row.wallet, row.month): Ended(
            row.contract,
            row.number,
            row.ends_at,
            *map(int, (row.broken_nanos, row.late_nanos, row.paid_nanos)),
        )
        for row in rows
    }


async def keep_late(session: AsyncSession, changed: Iterable[Ended]) -> None:
    rows = [
        {"contract": one.contract, "index": one.index, "late": one.late_nanos, "paid": one.paid_nanos}
        for one in changed
    ]
    if rows:
        await session.execute(SET_LATE, rows)


INSERT_PERIOD = text("""
    INSERT INTO contract_periods (contract, index, starts_at, ends_at, version, committed_nanos, opened_at)
    VALUES (:contract, :index, :starts_at, :ends_at, :version, :committed, :at)
""")
CLOSE_PERIOD = text("""
    UPDATE contract_periods SET closed_at = :at WHERE contract = :contract AND index = :index AND closed_at IS NULL
""")
ADD_BROKEN = text("""
    UPDATE contract_periods SET broken_nanos = broken_nanos + :nanos WHERE contract = :contract AND index = :index
""")
SET_LATE = text("""
    UPDATE contract_periods SET late_nanos = :late, paid_nanos = :paid WHERE contract = :contract AND index = :index
""")
SELECT_PERIODS = text("""
    SELECT index AS number, starts_at, ends_at, version, committed_nanos, closed_at, broken_nanos, paid_nanos
    FROM contract_periods WHERE contract = :contract ORDER BY index
""")
INSERT_LOT = text("""
    INSERT INTO contract_lots (lot, contract, period, rolled_from) VALUES (:lot, :contract, :period, :rolled_from)
""")
SELECT_LOTS = text("""
    SELECT c.lot, c.period, c.rolled_from, l.expires_at, l.granted_nanos, l.used_nanos,
           l.remaining_nanos AS left_nanos, m.rolled_nanos, m.broken_nanos, m.taken_back_nanos
    FROM contract_lots c JOIN credit_lots l ON l.id = c.lot
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(p.amount_nanos) FILTER (WHERE t.kind = 'commitment_rolled' AND p.amount_nanos > 0), 0)
               AS rolled_nanos,
             coalesce(sum(p.amount_nanos) FILTER (WHERE t.kind = 'commitment_broken'), 0) AS broken_nanos,
             coalesce(sum(p.amount_nanos) FILTER (WHERE t.kind = 'commitment_taken_back'), 0) AS taken_back_nanos
      FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id WHERE p.lot = c.lot
    ) AS m
    WHERE c.contract = :contract ORDER BY c.period, c.rolled_from NULLS FIRST, c.lot
""")
INSERT_ALERT = text("""
    INSERT INTO contract_alerts (contract, period, percent, used_nanos, at)
    VALUES (:contract, :period, :percent, :used, :at) ON CONFLICT DO NOTHING
""")
SELECT_ENDED = text("""
    SELECT s.wallet, s.month, p.contract, p.index AS number, p.ends_at, p.broken_nanos, p.late_nanos, p.paid_nanos
    FROM unnest(CAST(:wallets AS text[]), CAST(:months AS date[])) AS s (wallet, month)
    JOIN contracts c ON c.wallet = s.wallet
    JOIN contract_periods p ON p.contract = c.id AND p.closed_at IS NOT NULL
      AND p.starts_at <= s.month::timestamp AT TIME ZONE 'UTC'
      AND p.ends_at > s.month::timestamp AT TIME ZONE 'UTC'
""")
