"""What a request is about to do, and the entry of the audit log that it leaves in the transaction that does it.

Every route's session goes through `Database.begin`, which calls `write` before it commits: a change can't stand without
its entry, nor an entry without its change. A request has one entry, written with its first transaction that changes
anything. A secret is never in it: bodies are not kept, and of settings only what `ownership` names.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.members.ownership import Named, settings_of

OBJECTS_MAX = 20
"""More than any one request names and makes; the rest of a long list is left off."""


class Side(StrEnum):
    SELLER = "seller"
    ORGANIZATION = "organization"
    KEY = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    side: Side
    id: str
    name: str
    role: str | None
    token_prefix: str


@dataclass(slots=True, kw_only=True)
class Deed:
    id: str
    at: datetime
    actor: Actor
    operation: str
    org: str | None
    named: Sequence[Named]
    """What the path names comes first."""
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    address: str | None
    request_id: str
    idempotency_key: str | None
    made: list[str] = field(default_factory=list)
    """Ids of what the request creates, as it creates it."""
    written: bool = False

    async def write(self, session: AsyncSession) -> None:
        """Adds the entry to a transaction that changed something, once."""
        if self.written or not (await session.execute(HAS_CHANGED)).scalar_one():
            return
        after = await settings_of(session, [thing for thing in self.named if thing.id in self.before])
        changes = {
            thing: {
                name: {"before": value, "after": after[thing][name]}
                for name, value in settings.items()
                if thing in after and after[thing][name] != value
            }
            for thing, settings in self.before.items()
        }
        await self._insert(session, {thing: told for thing, told in changes.items() if told})
        self.written = True

    async def write_refusal(self, session: AsyncSession, code: str) -> None:
        await self._insert(session, {}, refused_as=code)

    async def _insert(
        self, session: AsyncSession, changes: Mapping[str, Any], *, refused_as: str | None = None
    ) -> None:
        # What a refused request was about to make never came to be.
        made = self.made if refused_as is None else []
        objects = dict.fromkeys([*(thing.id for thing in self.named), *made])
        await session.execute(
            INSERT,
            {
                "id": self.id,
                "at": self.at,
                "side": self.actor.side,
                "actor": self.actor.id,
                "name": self.actor.name,
                "role": self.actor.role,
                "prefix": self.actor.token_prefix,
                "operation": self.operation,
                "org": self.org,
                "objects": list(objects)[:OBJECTS_MAX],
                "changes": json.dumps(changes, default=str),
                "outcome": "done" if refused_as is None else "refused",
                "code": refused_as,
                "address": self.address,
                "request_id": self.request_id,
                "idempotency_key": self.idempotency_key,
            },
        )


# Whether the transaction has changed (or locked) a row: what only reads has no number.
HAS_CHANGED = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")

INSERT = text("""
    INSERT INTO audit_log
      (id, at, actor_side, actor, actor_name, role, token_prefix, operation, org, objects, changes, outcome, code,
       address, request_id, idempotency_key)
    VALUES (:id, :at, :side, :actor, :name, :role, :prefix, :operation, :org, CAST(:objects AS text[]),
            CAST(:changes AS jsonb), :outcome, :code, :address, :request_id, :idempotency_key)
""")
