"""The end of a batch: its answers and its errors become files; and the end of files."""

from collections.abc import AsyncIterator
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches import file_store, line_store, store
from headrace_billing.batches.batch import Batch, BatchStatus
from headrace_billing.batches.line import NotAnswered, result_line
from headrace_billing.database import Database


async def end_next(database: Database, *, now: datetime) -> bool:
    """Brings one batch whose requests have all come back a stage further; whether there was one."""
    async with database.begin() as session:
        batch = await store.next_to_end(session, at=now)
        if batch is None:
            return False
        if batch.status is BatchStatus.IN_PROGRESS:
            await store.finalize(session, batch.id, at=now)
        else:
            await _write_files(session, batch, now=now)
    return True


async def _write_files(session: AsyncSession, batch: Batch, *, now: datetime) -> None:
    status, undone = BatchStatus.COMPLETED, NotAnswered.EXPIRED
    if batch.status is BatchStatus.CANCELLING:
        status, undone = BatchStatus.CANCELLED, NotAnswered.CANCELLED
    elif await line_store.any_waits(session, batch.id):
        status = BatchStatus.EXPIRED

    async def written(*, answered: bool) -> AsyncIterator[bytes]:
        async for row in line_store.results(session, batch.id, answered=answered):
            yield result_line(row, undone=undone)

    output, errors = [
        await file_store.add(
            session, written(answered=answered), project=batch.project, filename=filename, at=now
        )
        for answered, filename in ((True, f"{batch.id}_output.jsonl"), (False, f"{batch.id}_error.jsonl"))
    ]
    await store.end(session, batch.id, status, output_file=output, error_file=errors, at=now)
    await line_store.remove(session, batch.id)


async def forget_files(database: Database, *, now: datetime) -> bool:
    """Removes some whose time is over; whether there may be more."""
    async with database.begin() as session:
        return await file_store.remove_expired(session, at=now) == file_store.EXPIRED_MAX
