"""Declaring an engine request lost: no event will come, nobody is charged, and two people say so."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound


class LossNeedsTwo(BillingError):
    """Who declares a loss can't confirm it, too."""

    code = "loss_needs_two"

    def __init__(self) -> None:
        super().__init__("declared_by and confirmed_by must be two people.")


class NotLost(BillingError):
    """There is an event for that request, so it is not lost."""

    code = "not_lost"

    def __init__(self, attempt: str) -> None:
        super().__init__(f"{attempt} has a usage event.")


@dataclass(frozen=True, slots=True)
class Loss:
    attempt: str
    reason: str
    declared_by: str
    confirmed_by: str
    declared_at: datetime


async def declare(session: AsyncSession, loss: Loss) -> int:
    """How many engine records it covers. Raises `LossNeedsTwo`, `NotFound`, `NotLost`."""
    if loss.declared_by.casefold() == loss.confirmed_by.casefold():
        raise LossNeedsTwo
    rows = (await session.execute(SELECT_RECORDS, {"attempt": loss.attempt})).all()
    if not rows:
        raise NotFound("engine record", loss.attempt)
    if any(row.billed for row in rows):
        raise NotLost(loss.attempt)
    await session.execute(
        INSERT_LOSS,
        {
            "attempt": loss.attempt,
            "reason": loss.reason,
            "declared_by": loss.declared_by,
            "confirmed_by": loss.confirmed_by,
            "at": loss.declared_at,
        },
    )
    return len(rows)


SELECT_RECORDS = text("""
    SELECT EXISTS (SELECT 1 FROM usage_events e WHERE e.id = r.request_id) AS billed
    FROM engine_records r WHERE r.attempt = :attempt AND NOT r.probe
""")

INSERT_LOSS = text("""
    INSERT INTO declared_losses (replica, attempt, reason, declared_by, confirmed_by, declared_at)
    SELECT replica, attempt, :reason, :declared_by, :confirmed_by, :at FROM engine_records
    WHERE attempt = :attempt AND NOT probe
    ON CONFLICT DO NOTHING
""")
