"""What the last look at each stage saw, in Postgres."""

import json
from collections.abc import Sequence
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.reconciliation.report import Culprit
from headrace_billing.reconciliation.request import Reason, Status
from headrace_billing.reconciliation.stage import Look, Side, Stage


async def take_turn(session: AsyncSession) -> bool:
    """One process looks at a time; until the transaction ends. False if another does."""
    return bool((await session.execute(TRY_LOCK)).scalar_one())


async def days(session: AsyncSession) -> list[tuple[date, datetime, Status]]:
    """Days that were looked at: when, and how they were."""
    rows = await session.execute(SELECT_DAYS)
    return [(row.day, row.as_of, Status.GREEN if row.settled else Status.RED) for row in rows]


async def looks(session: AsyncSession) -> list[Look]:
    return [
        Look(
            stage=Stage(row.stage),
            day=row.day,
            as_of=row.as_of,
            status=Status(row.status),
            sides=[Side(unit, int(left), int(right)) for unit, left, right in row.sides],
            culprits=[
                Culprit(one["id"], Reason(one["reason"]), Status(one["status"]), one["detail"])
                for one in row.culprits
            ],
            culprits_count=int(row.culprits_count),
            reasons={Reason(reason): int(count) for reason, count in row.reasons.items()},
            unwitnessed_requests=int(row.unwitnessed_requests),
        )
        for row in await session.execute(SELECT_LOOKS)
    ]


async def keep(session: AsyncSession, look: Look) -> Status | None:
    """What the look before saw, if there was one."""
    place = {"stage": look.stage, "day": look.day}
    before: str | None = (await session.execute(SELECT_STATUS, place)).scalar()
    await session.execute(
        UPSERT,
        {
            **place,
            "as_of": look.as_of,
            "status": look.status,
            # As text: JSON's readers may take a long integer for a float.
            "sides": json.dumps([[side.unit, str(side.left), str(side.right)] for side in look.sides]),
            "culprits": json.dumps([culprit.document() for culprit in look.culprits]),
            "culprits_count": look.culprits_count,
            "reasons": json.dumps(dict(look.reasons)),
            "unwitnessed_requests": look.unwitnessed_requests,
        },
    )
    return None if before is None else Status(before)


async def forget(session: AsyncSession, *, before: date, stages: Sequence[Stage]) -> None:
    """Days without a culprit that are looked at no more, and stages that there no longer are."""
    await session.execute(DELETE, {"before": before, "stages": list(stages)})


TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('headrace.reconciliation'))")

SELECT_DAYS = text("""
    SELECT day, min(as_of) AS as_of, bool_and(status IN ('green', 'unwitnessed')) AS settled
    FROM reconciliation_looks WHERE day IS NOT NULL GROUP BY day
""")

SELECT_LOOKS = text("SELECT * FROM reconciliation_looks ORDER BY day DESC NULLS FIRST")

SELECT_STATUS = text("""
    SELECT status FROM reconciliation_looks
    WHERE stage = :stage AND day IS NOT DISTINCT FROM CAST(:day AS date)
""")

UPSERT = text("""
    INSERT INTO reconciliation_looks (stage, day, as_of, status, sides, culprits, culprits_count,
                                      reasons, unwitnessed_requests)
    VALUES (:stage, CAST(:day AS date), :as_of, :status, CAST(:sides AS jsonb), CAST(:culprits AS jsonb),
            :culprits_count, CAST(:reasons AS jsonb), :unwitnessed_requests)
    ON CONFLICT (stage, day) DO UPDATE SET
      as_of = excluded.as_of, status = excluded.status, sides = excluded.sides, culprits = excluded.culprits,
      culprits_count = excluded.culprits_count, reasons = excluded.reasons,
      unwitnessed_requests = excluded.unwitnessed_requests
""")

DELETE = text("""
    DELETE FROM reconciliation_looks
    WHERE (day < :before AND status IN ('green', 'unwitnessed')) OR stage <> ALL(:stages)
""")
