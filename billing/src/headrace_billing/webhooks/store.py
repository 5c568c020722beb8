"""Webhook endpoints in Postgres, and what was sent to each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.errors import NotFound
from headrace_billing.webhooks.endpoint import Endpoint, EndpointStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    url: str
    description: str
    events: list[str] | None
    status: EndpointStatus


async def add(session: AsyncSession, endpoint: Endpoint) -> None:
    await session.execute(
        INSERT,
        {
            "id": endpoint.id,
            "org": endpoint.org,
            "url": endpoint.url,
            "description": endpoint.description,
            "events": endpoint.events,
            "at": endpoint.created_at,
        },
    )


async def read(session: AsyncSession, endpoint_id: str) -> Endpoint:
    """Raises `NotFound`, for one that was removed too."""
    return _endpoint((await session.execute(SELECT, {"id": endpoint_id})).mappings().first(), endpoint_id)


async def lock(session: AsyncSession, endpoint_id: str) -> Endpoint:
    """Raises `NotFound`, for one that was removed too."""
    return _endpoint((await session.execute(LOCK, {"id": endpoint_id})).mappings().first(), endpoint_id)


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> Sequence[Endpoint]:
    """Of an organisation; the seller's where none is named."""
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return [_endpoint(row, "") for row in rows.mappings()]


async def count(session: AsyncSession, *, org: str | None) -> int:
    """Endpoints of one organisation, or of the seller; nobody adds one until the transaction ends."""
    await session.execute(LOCK_COUNT, {"org": org or ""})
    number: int = (await session.execute(COUNT, {"org": org})).scalar_one()
    return number


async def change(session: AsyncSession, endpoint_id: str, to: Change, *, at: datetime) -> None:
    """One that is enabled again starts afresh: what waited is due now, with its whole life before it."""
    enabled = to.status is EndpointStatus.ENABLED
    await session.execute(
        UPDATE,
        {
            "id": endpoint_id,
            "url": to.url,
            "description": to.description,
            "events": to.events,
            "status": to.status,
            "reason": None if enabled else "by hand",
        },
    )
    if enabled:
        await session.execute(MAKE_DUE, {"id": endpoint_id, "at": at})


async def rotate_secret(session: AsyncSession, endpoint_id: str, *, old_until: datetime) -> Endpoint:
    await session.execute(ROTATE, {"id": endpoint_id, "until": old_until})
    return await read(session, endpoint_id)


async def remove(session: AsyncSession, endpoint_id: str, *, at: datetime) -> None:
    await session.execute(REMOVE, {"id": endpoint_id, "at": at})


async def replay(
    session: AsyncSession,
    endpoint: Endpoint,
    *,
    message: str | None,
    start: datetime | None,
    end: datetime | None,
    at: datetime,
    limit: int,
) -> int:
    """Sends messages once more, those of [start, end) or the one named, with their own ids; how many.

    Also what happened before the endpoint was there, or while it was disabled.
    """
    result = await session.execute(
        REPLAY,
        {
            "id": endpoint.id,
            "org": endpoint.org,
            "events": endpoint.events,
            "message": message,
            "start": start,
            "end": end,
            "at": at,
            "limit": limit,
        },
    )
    return len(result.all())


class AttemptDocument(TypedDict):
    at: str
    response_status: int | None
    error: str | None
    seconds: float


class DeliveryDocument(TypedDict):
    id: str
    type: str
    at: str
    status: str
    due_at: str | None
    attempts: list[AttemptDocument]


async def deliveries(
    session: AsyncSession, endpoint_id: str, *, after: str, limit: int
) -> list[DeliveryDocument]:
    """By message, with all that was tried."""
    rows = await session.execute(SELECT_DELIVERIES, {"id": endpoint_id, "after": after, "limit": limit})
    return [
        {
            "id": row.message,
            "type": row.type,
            "at": row.at.isoformat(),
            "status": row.status,
            "due_at": None if row.due_at is None else row.due_at.isoformat(),
            "attempts": row.tried,
        }
        for row in rows
    ]


def _endpoint(row: RowMapping | None, key: str) -> Endpoint:
    if row is None:
        raise NotFound("webhook endpoint", key)
    return Endpoint(**{**row, "status": EndpointStatus(row["status"])})


COLUMNS = (
    "id, org, url, description, events, status, disabled_reason, secret_number, old_secret_until, failing_since,"
    " created_at"
)

INSERT = text("""
    INSERT INTO webhook_endpoints (id, org, url, description, events, created_at)
    VALUES (:id, :org, :url, :description, CAST(:events AS text[]), :at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM webhook_endpoints WHERE id = :id AND removed_at IS NULL")  # noqa: S608
# Not against who only refers to it: a change elsewhere, which makes a message, waits for nobody here.
LOCK = text(f"""
    SELECT {COLUMNS} FROM webhook_endpoints WHERE id = :id AND removed_at IS NULL FOR NO KEY UPDATE
""")  # noqa: S608

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM webhook_endpoints
    WHERE id > :after AND org IS NOT DISTINCT FROM CAST(:org AS text) AND removed_at IS NULL
    ORDER BY id LIMIT :limit
""")  # noqa: S608

LOCK_COUNT = text("SELECT pg_advisory_xact_lock(hashtext('webhook_endpoints'), hashtext(:org))")
COUNT = text("""
    SELECT count(*) FROM webhook_endpoints
    WHERE org IS NOT DISTINCT FROM CAST(:org AS text) AND removed_at IS NULL
""")

UPDATE = text("""
    UPDATE webhook_endpoints
    SET url = :url, description = :description, events = CAST(:events AS text[]), status = :status,
        disabled_reason = :reason, failing_since = NULL
    WHERE id = :id
""")

MAKE_DUE = text("""
    UPDATE webhook_deliveries SET due_at = :at, since = :at WHERE endpoint = :id AND status = 'pending'
""")

ROTATE = text("""
    UPDATE webhook_endpoints SET secret_number = secret_number + 1, old_secret_until = :until WHERE id = :id
""")

REMOVE = text("UPDATE webhook_endpoints SET removed_at = :at WHERE id = :id")

REPLAY = text("""
    INSERT INTO webhook_deliveries AS d (endpoint, message, since, due_at)
    SELECT :id, m.id, :at, :at FROM webhook_messages m
    WHERE (CAST(:org AS text) IS NULL OR m.org = :org)
      AND (CAST(:message AS text) IS NULL OR m.id = :message)
      AND (CAST(:start AS timestamptz) IS NULL OR m.at >= :start)
      AND (CAST(:end AS timestamptz) IS NULL OR m.at < :end)
      AND (CAST(:events AS text[]) IS NULL OR m.type = ANY(CAST(:events AS text[])))
    ORDER BY m.id LIMIT :limit
    ON CONFLICT (endpoint, message) DO UPDATE
    SET status = 'pending', since = excluded.since, due_at = excluded.due_at, attempts = 0
    RETURNING message
""")

SELECT_DELIVERIES = text("""
    SELECT d.message, m.type, m.at, d.status, d.due_at, coalesce((
      SELECT jsonb_agg(jsonb_build_object('at', to_char(a.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
                                          'response_status', a.response_status, 'error', a.error,
                                          'seconds', round(a.seconds::numeric, 3)) ORDER BY a.id)
      FROM webhook_attempts a WHERE a.endpoint = d.endpoint AND a.message = d.message), '[]') AS tried
    FROM webhook_deliveries d JOIN webhook_messages m ON m.id = d.message
    WHERE d.endpoint = :id AND d.message > :after ORDER BY d.message LIMIT :limit
""")
