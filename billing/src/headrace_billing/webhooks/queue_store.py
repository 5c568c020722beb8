"""What is due to be sent, claimed for a while, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ledger import notices
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.webhooks import schedule, store
from headrace_billing.webhooks.endpoint import Endpoint, EndpointStatus
from headrace_billing.webhooks.event import Message
from headrace_billing.webhooks.sending import TOTAL_SECONDS, Answer

# Longer than an attempt can take, so that no two workers send the same at the same time while both live.
CLAIM = timedelta(seconds=4 * TOTAL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    endpoint: Endpoint
    message: Message
    attempts: int
    since: datetime


async def claim(
    session: AsyncSession, *, now: datetime, limit: int, each: int, busy: Sequence[str]
) -> list[Delivery]:
    """Up to `limit` deliveries that are due, `each` of one endpoint at most and none of those that are `busy`."""
    rows = await session.execute(
        CLAIM_DUE, {"now": now, "until": now + CLAIM, "limit": limit, "each": each, "busy": list(busy)}
    )
    return [
        Delivery(
            endpoint=await store.read(session, row.endpoint),
            message=Message(id=row.message, type=row.type, at=row.at, data=row.data),
            attempts=row.attempts,
            since=row.since,
        )
        for row in rows.all()
    ]


async def record(
    session: AsyncSession, delivery: Delivery, answer: Answer, *, now: datetime, seconds: float, chance: float
) -> None:
    """What came of an attempt, and what follows from it for the delivery and for its endpoint."""
    endpoint, message = delivery.endpoint.id, delivery.message.id
    # The endpoint's row before the delivery's, as whoever changes an endpoint takes them.
    found = await session.execute(HEALTHY if answer.is_taken else FAILING, {"endpoint": endpoint, "now": now})
    failing_since: datetime | None = None if answer.is_taken else found.scalar_one()
    await session.execute(
        INSERT_ATTEMPT,
        {
            "endpoint": endpoint,
            "message": message,
            "at": now,
            "status": answer.status,
            "error": answer.error,
            "seconds": seconds,
        },
    )
    attempts = delivery.attempts + 1
    again = (
        None
        if answer.is_taken or answer.is_gone
        else schedule.next_attempt(attempts=attempts, since=delivery.since, now=now, chance=chance)
    )
    status = "delivered" if answer.is_taken else "given_up" if again is None else "pending"
    await session.execute(
        SETTLE,
        {"endpoint": endpoint, "message": message, "status": status, "due": again, "attempts": attempts},
    )
    if failing_since is None:
        return
    if answer.is_gone:
        await _disable(session, endpoint, "the receiver answered 410 Gone", now=now)
    elif schedule.to_be_disabled(failing_since=failing_since, now=now):
        await _disable(session, endpoint, f"nothing was taken since {failing_since.isoformat()}", now=now)


async def forget(session: AsyncSession, *, now: datetime, limit: int) -> int:
    """Drops the oldest messages of those that are past their time, with what was tried of them; how many."""
    gone = await session.execute(FORGET, {"before": now - schedule.KEPT, "limit": limit})
    return len(gone.all())


async def _disable(session: AsyncSession, endpoint_id: str, reason: str, *, now: datetime) -> None:
    """With a notice to the organisation. The seller, whose endpoints have none, sees it in the list."""
    endpoint = await store.lock(session, endpoint_id)
    if endpoint.status is EndpointStatus.DISABLED:
        return
    await session.execute(DISABLE, {"endpoint": endpoint_id, "reason": reason})
    if endpoint.org is not None:
        content = {"endpoint": endpoint_id, "url": endpoint.url, "reason": reason}
        await notices.tell(
            session, org=endpoint.org, kind=NoticeKind.WEBHOOK_DISABLED, at=now, content=content
        )


# Rows of an endpoint that somebody else claims at this moment are passed over, and nobody waits.
CLAIM_DUE = text("""
    WITH due AS MATERIALIZED (
      SELECT d.endpoint, d.message
      FROM webhook_endpoints e CROSS JOIN LATERAL (
        SELECT endpoint, message, due_at FROM webhook_deliveries
        WHERE endpoint = e.id AND status = 'pending' AND due_at <= :now
        ORDER BY due_at, message LIMIT :each FOR UPDATE SKIP LOCKED
      ) d
      WHERE e.status = 'enabled' AND e.removed_at IS NULL AND e.id <> ALL(CAST(:busy AS text[]))
      ORDER BY d.due_at LIMIT :limit
    )
    UPDATE webhook_deliveries d SET due_at = :until
    FROM due, webhook_messages m
    WHERE d.endpoint = due.endpoint AND d.message = due.message AND m.id = d.message
    RETURNING d.endpoint, d.message, d.attempts, d.since, m.type, m.at, m.data
""")

INSERT_ATTEMPT = text("""
    INSERT INTO webhook_attempts (endpoint, message, at, response_status, error, seconds)
    VALUES (:endpoint, :message, :at, :status, :error, :seconds)
""")

# What was delivered by another worker meanwhile stays so.
SETTLE = text("""
    UPDATE webhook_deliveries SET status = :status, due_at = :due, attempts = :attempts
    WHERE endpoint = :endpoint AND message = :message AND status = 'pending'
""")

HEALTHY = text("""
    UPDATE webhook_endpoints SET failing_since = NULL WHERE id = :endpoint AND failing_since IS NOT NULL
""")
FAILING = text("""
    UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, :now) WHERE id = :endpoint
    RETURNING failing_since
""")
DISABLE = text("""
    UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = :reason WHERE id = :endpoint
""")
FORGET = text("""
    DELETE FROM webhook_messages WHERE id IN (
      SELECT id FROM webhook_messages WHERE at < :before ORDER BY at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id
""")
