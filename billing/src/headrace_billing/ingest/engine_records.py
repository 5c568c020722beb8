"""What engines say that they yielded, in Postgres: the other side of the reconciliation."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import InvalidRequest
from headrace_billing.ingest.arrival import TOKENS_MAX, instant, plausible
from headrace_contracts.engine import EngineEnding, EngineRecord
from headrace_contracts.usage import request_of_attempt

RECORDS_MAX = 1000
ID_CHARACTERS_MAX = 200


async def keep(session: AsyncSession, records: Sequence[EngineRecord]) -> None:
    """Stores each record; one that tells an end replaces `started`, and nothing replaces an end."""
    # The last word on an attempt within the batch is the one that tells its end.
    newest: dict[tuple[str, str], EngineRecord] = {}
    for record in records:
        known = newest.get((record.replica, record.attempt))
        if known is None or known.ending is EngineEnding.STARTED:
            newest[record.replica, record.attempt] = record
    rows = [_row(newest[identity]) for identity in sorted(newest)]
    await session.execute(UPSERT, {"rows": msgspec.json.encode(rows).decode()})


def check(records: Sequence[EngineRecord]) -> None:
    """Raises `InvalidRequest` for what no engine of ours would say."""
    if len(records) > RECORDS_MAX:
        raise InvalidRequest(f"records: at most {RECORDS_MAX} at once.")
    for number, record in enumerate(records):
        names = (record.replica, record.attempt, record.deployment, record.model)
        if not all(name.isprintable() and 0 < len(name) <= ID_CHARACTERS_MAX for name in names):
            raise InvalidRequest(f"records.{number}: a name is empty, too long or not printable.")
        if not (0 <= record.cached <= record.prompt <= TOKENS_MAX and 0 <= record.output <= TOKENS_MAX):
            raise InvalidRequest(f"records.{number}: counts are out of range.")
        times = (record.started_at_us, record.finished_at_us)
        if not all(plausible(time) for time in times if time is not None):
            raise InvalidRequest(f"records.{number}: a time is out of range.")


def _row(record: EngineRecord) -> dict[str, Any]:
    return {
        "replica": record.replica,
        "attempt": record.attempt,
        "request_id": None if record.probe else _request(record.attempt),
        "deployment": record.deployment,
        "model": record.model,
        "ending": record.ending,
        "prompt": record.prompt,
        "cached": record.cached,
        "output": record.output,
        "started_at": instant(record.started_at_us),
        "finished_at": None if record.finished_at_us is None else instant(record.finished_at_us),
        "probe": record.probe,
    }


def _request(attempt: str) -> UUID | None:
    """Null for an attempt that no gateway of ours can have named: a request that nobody metered."""
    try:
        return UUID(request_of_attempt(attempt))
    except ValueError:
        return None


UPSERT = text("""
    INSERT INTO engine_records AS e (
      replica, attempt, request_id, deployment, model, ending, prompt, cached, output, started_at, finished_at,
      probe)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
      replica text, attempt text, request_id uuid, deployment text, model text, ending text, prompt bigint,
      cached bigint, output bigint, started_at timestamptz, finished_at timestamptz, probe boolean)
    ON CONFLICT (replica, attempt) DO UPDATE SET
      ending = excluded.ending, prompt = excluded.prompt, cached = excluded.cached, output = excluded.output,
      started_at = excluded.started_at, finished_at = excluded.finished_at, stored_at = now()
    WHERE e.ending = 'started' AND excluded.ending <> 'started'
""")
