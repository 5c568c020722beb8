"""What a contract's projects used, and what its deployments held: sums by month, day and hour, read from the books."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.drawdown import Used
from headrace_billing.contracts.terms import GpuRate
from headrace_billing.invoicing.usage import Span


async def by_month(session: AsyncSession, contract: Contract) -> dict[date, Used]:
    """Charges as they were posted, of the months of the term that have any."""
    rows = await session.execute(SELECT_BY_MONTH, {**_whose(contract), "months": contract.term.every_month()})
    return {row.month: Used(int(row.drawn), int(row.afterwards)) for row in rows}


@dataclass(frozen=True, slots=True)
class Day:
    day: date
    used: Used


async def by_day(session: AsyncSession, contract: Contract, span: Span) -> list[Day]:
    """Days in which something was charged."""
    rows = await session.execute(SELECT_BY_DAY, {**_whose(contract), "start": span.start, "end": span.end})
    return [Day(row.day, Used(int(row.drawn), int(row.afterwards))) for row in rows]


@dataclass(frozen=True, slots=True)
class Measured:
    """Accelerator-milliseconds by hour."""

    by_hour: dict[datetime, int]
    estimated_ms: int


async def gpu_time(session: AsyncSession, contract: Contract, rate: GpuRate, span: Span) -> Measured:
    rows = (
        await session.execute(
            SELECT_GPU_TIME,
            {
                "org": contract.organization,
                "deployment": rate.deployment,
                "profile": rate.profile,
                "start": span.start,
                "end": span.end,
            },
        )
    ).all()
    return Measured({row.hour: int(row.gpu_ms) for row in rows}, sum(int(row.estimated_ms) for row in rows))


def _whose(contract: Contract) -> dict[str, str | Sequence[str] | None]:
    return {
        "org": contract.organization,
        "currency": contract.currency,
        "wallet": contract.wallet,
        "projects": list(contract.projects),
    }


# What a prepaid contract's projects paid before it, and after, is of other wallets.
WHOSE = """
    org = :org AND currency = :currency AND project = ANY(:projects)
    AND (CAST(:wallet AS text) IS NULL OR wallet = :wallet)
"""
SUMS = """
    coalesce(sum(charge_nanos) FILTER (WHERE disposition = 'commitment'), 0) AS drawn,
    coalesce(sum(charge_nanos) FILTER (WHERE disposition <> 'commitment'), 0) AS afterwards
"""
SELECT_BY_MONTH = text(f"""
    SELECT period AS month, {SUMS} FROM rated_usage
    WHERE period = ANY(:months) AND disposition IN ('commitment', 'payg', 'prepaid') AND {WHOSE}
    GROUP BY period ORDER BY period
""")  # noqa: S608 - fragments of this file
SELECT_BY_DAY = text(f"""
    SELECT CAST(hour AT TIME ZONE 'UTC' AS date) AS day, {SUMS} FROM usage_rollups_by_day
    WHERE hour >= :start AND hour < :end AND {WHOSE}
    GROUP BY 1 HAVING sum(charge_nanos) <> 0 ORDER BY 1
""")  # noqa: S608 - fragments of this file
SELECT_GPU_TIME = text("""
    SELECT hour, sum(gpu_ms) AS gpu_ms, coalesce(sum(gpu_ms) FILTER (WHERE grade = 0), 0) AS estimated_ms
    FROM gpu_time
    WHERE hour >= :start AND hour < :end AND org = :org AND deployment = :deployment AND profile = :profile
    GROUP BY hour
""")
