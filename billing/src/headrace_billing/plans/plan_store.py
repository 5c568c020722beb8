"""Versions of plans in Postgres. Each is kept as it was published."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.limit_bodies import PUBLISHED
from headrace_billing.errors import NotFound
from headrace_billing.plans.definition import PlanBody, plan_of, written
from headrace_billing.plans.plan import Plan, PlanVersionPublished, PlanVersionSkipped


@dataclass(frozen=True, slots=True)
class Published:
    plan: Plan
    definition: dict[str, Any]
    published_at: datetime


async def publish(session: AsyncSession, body: PlanBody, *, at: datetime) -> Published:
    """The version, now or before. Raises `PlanVersionPublished`, `PlanVersionSkipped`, `PlanInvalid`."""
    plan, definition = plan_of(body), written(body)
    await session.execute(LOCK)
    newest: int = (await session.execute(SELECT_NEWEST, {"code": plan.code})).scalar_one()
    if plan.version <= newest:
        known = await published(session, plan.id)
        if known.definition != definition:
            count: int = (await session.execute(COUNT_SUBSCRIBED, {"plan": plan.id})).scalar_one()
            raise PlanVersionPublished(plan.code, plan.version, newest=newest, subscriptions=count)
        return known
    if plan.version != newest + 1:
        raise PlanVersionSkipped(plan.code, newest=newest)
    await session.execute(
        INSERT,
        {
            "id": plan.id,
            "code": plan.code,
            "version": plan.version,
            "definition": json.dumps(definition),
            "at": at,
        },
    )
    return Published(plan, definition, at)


async def published(session: AsyncSession, plan: str) -> Published:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT, {"ids": [plan]})).first()
    if row is None:
        raise NotFound("plan", plan)
    return _published(row)


async def plans(session: AsyncSession, ids: Iterable[str]) -> dict[str, Plan]:
    """Those of `ids` that exist."""
    rows = await session.execute(SELECT, {"ids": sorted(set(ids))})
    return {row.id: _published(row).plan for row in rows}


async def page(session: AsyncSession, *, after: str, limit: int) -> Sequence[Published]:
    rows = await session.execute(SELECT_PAGE, {"after": after, "limit": limit})
    return [_published(row) for row in rows]


def _published(row: Row[Any]) -> Published:
    body = PlanBody.model_validate(row.definition, context=PUBLISHED)
    return Published(plan_of(body), row.definition, row.published_at)


LOCK = text("SELECT pg_advisory_xact_lock(hashtext('headrace.plans'))")

SELECT_NEWEST = text("SELECT coalesce(max(version), 0) FROM plans WHERE code = :code")

COUNT_SUBSCRIBED = text("SELECT count(*) FROM subscriptions WHERE plan = :plan AND state <> 'cancelled'")

INSERT = text("""
    INSERT INTO plans (id, code, version, definition, published_at)
    VALUES (:id, :code, :version, CAST(:definition AS jsonb), :at)
""")

SELECT = text("SELECT id, definition, published_at FROM plans WHERE id = ANY(:ids)")

SELECT_PAGE = text("""
    SELECT id, definition, published_at FROM plans WHERE id > :after ORDER BY id LIMIT :limit
""")
