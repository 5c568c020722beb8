"""Reading the audit log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries; null wants all."""

    org: str | None
    actor: str | None = None
    operation: str | None = None
    thing: str | None = None
    outcome: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def page(session: AsyncSession, wanted: Wanted, *, after: str, limit: int) -> list[RowMapping]:
    rows = await session.execute(
        SELECT_PAGE,
        {
            "org": wanted.org,
            "actor": wanted.actor,
            "operation": wanted.operation,
            "thing": wanted.thing,
            "outcome": wanted.outcome,
            "start": wanted.start,
            "end": wanted.end,
            "after": after,
            "limit": limit,
        },
    )
    return list(rows.mappings())


class ActorDocument(TypedDict):
    side: str
    id: str | None
    name: str
    role: str | None
    token_prefix: str | None


class EntryDocument(TypedDict):
    id: str
    at: str
    actor: ActorDocument
    address: str | None
    operation: str
    organization: str | None
    objects: Sequence[str]
    changes: Mapping[str, Any] | None
    outcome: str
    code: str | None
    request_id: str
    idempotency_key: str | None


def document(row: RowMapping) -> EntryDocument:
    return {
        "id": row["id"],
        "at": row["at"].isoformat(),
        "actor": {
            "side": row["actor_side"],
            "id": row["actor"],
            "name": row["actor_name"],
            "role": row["role"],
            "token_prefix": row["token_prefix"],
        },
        "address": row["address"],
        "operation": row["operation"],
        "organization": row["org"],
        "objects": row["objects"],
        "changes": row["changes"],
        "outcome": row["outcome"],
        "code": row["code"],
        "request_id": row["request_id"],
        "idempotency_key": row["idempotency_key"],
    }


def as_customers_see(shown: EntryDocument) -> EntryDocument:
    """Of the seller's staff a customer learns what it did and in which role, not who and from where."""
    if shown["actor"]["side"] != "seller":
        return shown
    actor: ActorDocument = {**shown["actor"], "id": None, "name": "seller", "token_prefix": None}
    return {**shown, "actor": actor, "address": None, "idempotency_key": None}


SELECT_PAGE = text("""
    SELECT id, at, actor_side, actor, actor_name, role, token_prefix, operation, org, objects, changes, outcome, code,
           address, request_id, idempotency_key
    FROM audit_log
    WHERE id > :after
      AND (CAST(:org AS text) IS NULL OR org = :org)
      AND (CAST(:actor AS text) IS NULL OR actor = :actor)
      AND (CAST(:operation AS text) IS NULL OR operation = :operation)
      AND (CAST(:thing AS text) IS NULL OR :thing = ANY(objects))
      AND (CAST(:outcome AS text) IS NULL OR outcome = :outcome)
      AND (CAST(:start AS timestamptz) IS NULL OR at >= :start)
      AND (CAST(:end AS timestamptz) IS NULL OR at < :end)
    ORDER BY id LIMIT :limit
""")
