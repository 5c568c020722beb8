"""How far the test clock is ahead, in Postgres."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.clock.movable import BooksInUse, MovableClock, ahead_of
from headrace_billing.database import Database

FOLLOW_SECONDS = 0.5
"""How often a process asks; whoever moves the clock waits a little longer before looking at what others did."""

MICROSECOND = timedelta(microseconds=1)


async def follow(database: Database, clock: MovableClock) -> None:
    """Takes over what another process has moved."""
    async with database.begin() as session:
        clock.ahead = await _ahead(session)


async def move(database: Database, clock: MovableClock, to: datetime) -> None:
    """Raises `ClockTimeInvalid`, `BooksInUse`."""
    async with database.begin() as session:
        # Two who move it at once take turns; nobody else locks this table.
        await session.execute(text("LOCK TABLE test_clock IN EXCLUSIVE MODE"))
        if not (await session.execute(SELECT_PLAYGROUND)).scalar_one():
            raise BooksInUse
        ahead = ahead_of(to, real=clock.real(), ahead=await _ahead(session))
        await session.execute(UPSERT, {"ahead_us": ahead // MICROSECOND})
    clock.ahead = ahead


async def _ahead(session: AsyncSession) -> timedelta:
    found: int | None = (await session.execute(SELECT_AHEAD)).scalar()
    return (found or 0) * MICROSECOND


SELECT_AHEAD = text("SELECT ahead_us FROM test_clock")

SELECT_PLAYGROUND = text("""
    SELECT EXISTS (SELECT 1 FROM test_clock) OR NOT EXISTS (SELECT 1 FROM invoices)
""")

UPSERT = text("""
    INSERT INTO test_clock (ahead_us) VALUES (:ahead_us)
    ON CONFLICT (singleton) DO UPDATE SET ahead_us = excluded.ahead_us, moved_at = now()
""")
