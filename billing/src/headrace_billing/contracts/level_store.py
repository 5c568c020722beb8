"""What service levels are measured by: usage events of a deployment by minute, hours in which its pods were measured,
and declared maintenance. And the credits that followed.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.contracts.service_level import Attainment, Minute
from headrace_billing.contracts.terms import Measure, ServiceLevel
from headrace_billing.invoicing.usage import Span

FAILED = ("upstream_failed", "gateway_lost", "timed_out")
"""What the customer had no part in. A request that was refused before it was admitted leaves no event."""


async def minutes(session: AsyncSession, org: str, level: ServiceLevel, span: Span) -> list[Minute]:
    """Minutes with requests, those of declared maintenance left out."""
    rows = await session.execute(
        SELECT_MINUTES[level.measure],
        {
            "org": org,
            "deployment": level.deployment,
            "start": span.start,
            "end": span.end,
            "failed": list(FAILED),
            **({} if level.within_ms is None else {"within_ms": level.within_ms}),
        },
    )
    return [Minute(row.minute, row.counted, row.good, row.estimated) for row in rows]


async def hours_seen(session: AsyncSession, org: str, deployment: str, span: Span) -> frozenset[datetime]:
    """In which a pod of the deployment was measured."""
    rows = await session.execute(
        SELECT_HOURS, {"org": org, "deployment": deployment, "start": span.start, "end": span.end}
    )
    return frozenset(row.hour for row in rows)


@dataclass(frozen=True, slots=True)
class Window:
    id: str
    deployment: str
    span: Span
    reason: str
    declared_at: datetime


async def declare(session: AsyncSession, window: Window) -> None:
    await session.execute(
        INSERT_WINDOW,
        {
            "id": window.id,
            "deployment": window.deployment,
            "starts_at": window.span.start,
            "ends_at": window.span.end,
            "reason": window.reason,
            "declared_at": window.declared_at,
        },
    )


async def windows(session: AsyncSession, deployment: str, span: Span) -> list[Window]:
    rows = await session.execute(
        SELECT_WINDOWS, {"deployment": deployment, "start": span.start, "end": span.end}
    )
    return [
        Window(row.id, row.deployment, Span(row.starts_at, row.ends_at), row.reason, row.declared_at)
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCredit:
    id: str
    contract: str
    level: str
    month: date
    number: int
    attainment: Attainment
    fee_nanos: int
    nanos: int
    charge: str
    made_at: datetime
    reversed_at: datetime | None = None


async def add_credit(session: AsyncSession, credit: ServiceCredit) -> None:
    await session.execute(
        INSERT_CREDIT,
        {
            "id": credit.id,
            "contract": credit.contract,
            "level": credit.level,
            "month": credit.month,
            "number": credit.number,
            "good": credit.attainment.good,
            "counted": credit.attainment.counted,
            "doubts": credit.attainment.doubts,
            "fee": credit.fee_nanos,
            "nanos": credit.nanos,
            "charge": credit.charge,
            "at": credit.made_at,
        },
    )


async def credits_of(session: AsyncSession, contract: str) -> list[ServiceCredit]:
    rows = await session.execute(SELECT_CREDITS, {"contract": contract})
    return [_credit(row) for row in rows]


async def credit_of(session: AsyncSession, credit: str) -> ServiceCredit | None:
    """Locked until the transaction ends."""
    row = (await session.execute(LOCK_CREDIT, {"id": credit})).first()
    return None if row is None else _credit(row)


async def reverse(session: AsyncSession, credit: str, *, charge: str, at: datetime) -> None:
    await session.execute(REVERSE_CREDIT, {"id": credit, "charge": charge, "at": at})


def _credit(row: Row[Any]) -> ServiceCredit:
    return ServiceCredit(
        id=row.id,
        contract=row.contract,
        level=row.level,
        month=row.month,
        number=row.number,
        attainment=Attainment(row.good, row.counted, row.doubts),
        fee_nanos=int(row.fee_nanos),
        nanos=int(row.nanos),
        charge=row.charge,
        made_at=row.made_at,
        reversed_at=row.reversed_at,
    )


def _minutes(*, counts: str, good: str) -> Any:
    return text(f"""
        SELECT date_trunc('minute', e.received_at) AS minute,
               count(*) AS counted, count(*) FILTER (WHERE {good}) AS good,
               count(*) FILTER (WHERE e.grade = 0) AS estimated
        FROM usage_effective e
        WHERE e.org = :org AND e.deployment = :deployment AND e.received_at >= :start AND e.received_at < :end
          AND {counts}
          AND NOT EXISTS (
            SELECT 1 FROM maintenance_windows w WHERE w.deployment = e.deployment
              AND w.starts_at <= e.received_at AND e.received_at < w.ends_at)
        GROUP BY 1 ORDER BY 1
    """)  # noqa: S608 - constants of this file


SERVED = "e.ending <> ALL(:failed)"
SELECT_MINUTES: dict[Measure, Any] = {
    Measure.REQUESTS: _minutes(counts="true", good=SERVED),
    Measure.MINUTES: _minutes(counts="true", good=SERVED),
    # A plain answer has no first token that anybody saw; a client that left earlier waits for none.
    Measure.FIRST_TOKEN: _minutes(
        counts="(e.first_token_at IS NOT NULL OR e.ending = ANY(:failed))",
        good=f"{SERVED} AND e.first_token_at <= e.received_at + :within_ms * interval '1 millisecond'",
    ),
    Measure.ANSWER: _minutes(
        counts="e.ending <> 'client_gone'",
        good=f"{SERVED} AND e.finished_at <= e.received_at + :within_ms * interval '1 millisecond'",
    ),
}
SELECT_HOURS = text("""
    SELECT DISTINCT hour FROM gpu_time
    WHERE org = :org AND deployment = :deployment AND hour >= :start AND hour < :end AND gpu_ms > 0
""")
INSERT_WINDOW = text("""
    INSERT INTO maintenance_windows (id, deployment, starts_at, ends_at, reason, declared_at)
    VALUES (:id, :deployment, :starts_at, :ends_at, :reason, :declared_at)
""")
SELECT_WINDOWS = text("""
    SELECT id, deployment, starts_at, ends_at, reason, declared_at FROM maintenance_windows
    WHERE deployment = :deployment AND starts_at < :end AND ends_at > :start ORDER BY starts_at, id
""")

CREDIT = "id, contract, level, month, number, good, counted, doubts, fee_nanos, nanos, charge, made_at, reversed_at"
INSERT_CREDIT = text("""
    INSERT INTO service_credits
      (id, contract, level, month, number, good, counted, doubts, fee_nanos, nanos, charge, made_at)
    VALUES (:id, :contract, :level, :month, :number, :good, :counted, :doubts, :fee, :nanos, :charge, :at)
""")
SELECT_CREDITS = text(f"""
    SELECT {CREDIT} FROM service_credits WHERE contract = :contract ORDER BY month, level, number
""")  # noqa: S608 - columns of this file
LOCK_CREDIT = text(f"SELECT {CREDIT} FROM service_credits WHERE id = :id FOR UPDATE")  # noqa: S608
REVERSE_CREDIT = text("UPDATE service_credits SET reversed_at = :at, reversal = :charge WHERE id = :id")
