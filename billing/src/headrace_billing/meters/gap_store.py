"""Declaring that nothing will come for some of a meter's numbers: two people say so, and the gap is closed by it."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound
from headrace_billing.ingest.batch import ONE_AT_A_TIME
from headrace_billing.ingest.journal import Received


class GapNeedsTwo(BillingError):
    """Who declares a gap can't confirm it, too."""

    code = "gap_needs_two"

    def __init__(self) -> None:
        super().__init__("declared_by and confirmed_by must be two people.")


class NoSuchGap(BillingError):
    """Some of the numbers have come, or nothing beyond them has."""

    code = "no_such_gap"

    def __init__(self, first: int, last: int) -> None:
        super().__init__(
            f"{first} to {last} is no gap or part of one: see `missing` in GET /v1/meters/{{id}}."
        )


@dataclass(frozen=True, slots=True)
class Gap:
    meter: str
    source: str
    first: int
    last: int
    reason: str
    declared_by: str
    confirmed_by: str
    declared_at: datetime


async def declare(session: AsyncSession, gap: Gap) -> None:
    """Raises `GapNeedsTwo`, `NotFound`, `NoSuchGap`."""
    if gap.declared_by.casefold() == gap.confirmed_by.casefold():
        raise GapNeedsTwo
    # Ingest writes the same rows.
    await session.execute(ONE_AT_A_TIME)
    row = (await session.execute(SELECT, {"meter": gap.meter, "source": gap.source})).first()
    if row is None:
        raise NotFound("numbered source", gap.source)
    received = Received(int(row.contiguous), tuple((first, last) for first, last in row.above))
    if not received.misses(gap.first, gap.last):
        raise NoSuchGap(gap.first, gap.last)
    closed = received.with_range(gap.first, gap.last)
    await session.execute(
        UPDATE,
        {
            "meter": gap.meter,
            "source": gap.source,
            "contiguous": closed.contiguous,
            "above": json.dumps([list(pair) for pair in closed.above]),
        },
    )
    await session.execute(
        INSERT,
        {
            "meter": gap.meter,
            "source": gap.source,
            "first": gap.first,
            "last": gap.last,
            "reason": gap.reason,
            "declared_by": gap.declared_by,
            "confirmed_by": gap.confirmed_by,
            "at": gap.declared_at,
        },
    )


SELECT = text("SELECT contiguous, above FROM meter_sequences WHERE meter = :meter AND source = :source")

UPDATE = text("""
    UPDATE meter_sequences
    SET contiguous = :contiguous, above = CAST(:above AS jsonb),
        gap_since = CASE WHEN CAST(:above AS jsonb) <> '[]' THEN gap_since END
    WHERE meter = :meter AND source = :source
""")

INSERT = text("""
    INSERT INTO declared_gaps (meter, source, first, last, reason, declared_by, confirmed_by, declared_at)
    VALUES (:meter, :source, :first, :last, :reason, :declared_by, :confirmed_by, :at)
""")
