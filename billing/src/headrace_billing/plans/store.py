"""Subscriptions in Postgres, and every step that they took."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound
from headrace_billing.invoicing.usage import Span
from headrace_billing.plans import plan_store
from headrace_billing.plans.documents import TakenStepDocument, line_document
from headrace_billing.plans.plan import Plan, Terms
from headrace_billing.plans.subscription import Planned, State, Step, Subscription, Turn


class SubscriptionExists(BillingError):
    """One plan serves a project, or an organisation, at a time."""

    code = "subscription_exists"

    def __init__(self, served: str) -> None:
        super().__init__(f"{served} has a subscription already: change it, or cancel it first.")


async def add(session: AsyncSession, subscription: Subscription) -> None:
    """Raises `SubscriptionExists`."""
    try:
        async with session.begin_nested():
            await session.execute(INSERT, _row(subscription))
    except IntegrityError as error:
        raise SubscriptionExists(subscription.project or subscription.org) from error


async def must_be_free(session: AsyncSession, subscription: Subscription) -> None:
    """Raises `SubscriptionExists` where whom it would serve has one."""
    served = {"org": subscription.org, "project": subscription.project}
    if (await session.execute(SELECT_SERVED, served)).scalar_one():
        raise SubscriptionExists(subscription.project or subscription.org)


async def save(session: AsyncSession, subscription: Subscription) -> None:
    """Of the version before it, which the caller has locked."""
    row = (await session.execute(UPDATE, _row(subscription))).first()
    assert row is not None, f"{subscription.id} was not at version {subscription.version - 1}"


async def add_step(session: AsyncSession, step: Step) -> None:
    after = step.after
    await session.execute(
        INSERT_STEP,
        {
            "subscription": after.id,
            "version": after.version,
            "event": step.event,
            "at": step.at,
            "plan": after.terms.plan.id,
            "state": after.state,
            "lines": json.dumps([line_document(line, after.currency) for line in step.lines]),
        },
    )


async def find(session: AsyncSession, subscription: str, *, lock: bool = False) -> Subscription:
    """Raises `NotFound`."""
    row = (await session.execute(LOCK if lock else SELECT, {"id": subscription})).mappings().first()
    if row is None:
        raise NotFound("subscription", subscription)
    return (await _subscriptions(session, [row]))[0]


async def due(session: AsyncSession, *, now: datetime, limit: int) -> list[str]:
    """Those that time has something to do to, the longest due first."""
    return list((await session.execute(SELECT_DUE, {"now": now, "limit": limit})).scalars())


async def out_of_step(session: AsyncSession, *, limit: int) -> list[str]:
    """Those whose organisation lost or regained its service."""
    return list((await session.execute(SELECT_OUT_OF_STEP, {"limit": limit})).scalars())


async def is_overdue(session: AsyncSession, org: str) -> bool:
    """Whether the organisation gets no service for what it owes."""
    return bool((await session.execute(SELECT_PAUSED, {"org": org})).scalar_one())


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> Sequence[Subscription]:
    rows = (await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})).mappings()
    return await _subscriptions(session, rows.all())


async def steps(session: AsyncSession, subscription: str) -> list[TakenStepDocument]:
    """The latest first, as they are told."""
    rows = await session.execute(SELECT_STEPS, {"id": subscription, "limit": STEPS_SHOWN_MAX})
    return [
        {
            "version": row.version,
            "event": row.event,
            "at": row.at.isoformat(),
            "plan": row.plan,
            "state": row.state,
            "lines": row.lines,
        }
        for row in rows
    ]


STEPS_SHOWN_MAX = 100


async def _subscriptions(session: AsyncSession, rows: Sequence[RowMapping]) -> list[Subscription]:
    named = {row["plan"] for row in rows} | {
        row["planned"]["plan"] for row in rows if row["planned"] and "plan" in row["planned"]
    }
    plans = await plan_store.plans(session, named)
    return [_subscription(row, plans) for row in rows]


def _subscription(row: RowMapping, plans: Mapping[str, Plan]) -> Subscription:
    planned = row["planned"]
    return Subscription(
        id=row["id"],
        org=row["org"],
        project=row["project"],
        wallet=row["wallet"],
        terms=Terms(plans[row["plan"]], row["seats"], row["add_ons"]),
        state=State(row["state"]),
        starts_at=row["starts_at"],
        anchor=row["anchor"],
        number=row["number"],
        period=None if row["period_start"] is None else Span(row["period_start"], row["period_end"]),
        planned=None
        if planned is None
        else Planned(
            Turn(planned["turn"]),
            Terms(plans[planned["plan"]], planned["seats"], planned["add_ons"])
            if "plan" in planned
            else None,
        ),
        version=row["version"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
    )


def _row(subscription: Subscription) -> dict[str, Any]:
    planned = subscription.planned
    period = subscription.period
    return {
        "id": subscription.id,
        "org": subscription.org,
        "project": subscription.project,
        "wallet": subscription.wallet,
        **_terms(subscription.terms),
        "add_ons": json.dumps(dict(subscription.terms.add_ons)),
        "state": subscription.state,
        "starts_at": subscription.starts_at,
        "anchor": subscription.anchor,
        "number": subscription.number,
        "period_start": None if period is None else period.start,
        "period_end": None if period is None else period.end,
        "planned": None
        if planned is None
        else json.dumps({"turn": planned.turn, **({} if planned.terms is None else _terms(planned.terms))}),
        "version": subscription.version,
        "before": subscription.version - 1,
        "created_at": subscription.created_at,
        "ended_at": subscription.ended_at,
    }


def _terms(terms: Terms) -> dict[str, Any]:
    return {"plan": terms.plan.id, "seats": terms.seats, "add_ons": dict(terms.add_ons)}


COLUMNS = """
    s.id, s.org, s.project, s.wallet, s.plan, s.seats, s.add_ons, s.state, s.starts_at, s.anchor, s.number,
    s.period_start, s.period_end, s.planned, s.version, s.created_at, s.ended_at
"""

INSERT = text("""
    INSERT INTO subscriptions
      (id, org, project, wallet, plan, seats, add_ons, state, starts_at, anchor, number, period_start, period_end,
       planned, version, created_at, ended_at)
    VALUES (:id, :org, :project, :wallet, :plan, :seats, CAST(:add_ons AS jsonb), :state, :starts_at, :anchor, :number,
            :period_start, :period_end, CAST(:planned AS jsonb), :version, :created_at, :ended_at)
""")

UPDATE = text("""
    UPDATE subscriptions
    SET plan = :plan, seats = :seats, add_ons = CAST(:add_ons AS jsonb), state = :state, anchor = :anchor,
        number = :number, period_start = :period_start, period_end = :period_end, planned = CAST(:planned AS jsonb),
        version = :version, ended_at = :ended_at
    WHERE id = :id AND version = :before RETURNING id
""")

INSERT_STEP = text("""
    INSERT INTO subscription_steps (subscription, version, event, at, plan, state, lines)
    VALUES (:subscription, :version, :event, :at, :plan, :state, CAST(:lines AS jsonb))
""")

SELECT = text(f"SELECT {COLUMNS} FROM subscriptions s WHERE s.id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM subscriptions s WHERE s.id = :id FOR UPDATE")

SELECT_DUE = text("SELECT id FROM subscriptions WHERE due_at <= :now ORDER BY due_at LIMIT :limit")

SELECT_OUT_OF_STEP = text("""
    SELECT s.id FROM subscriptions s JOIN organizations o ON o.id = s.org
    WHERE (s.state = 'active' AND o.paused) OR (s.state = 'past_due' AND NOT o.paused) LIMIT :limit
""")

SELECT_SERVED = text("""
    SELECT EXISTS (SELECT FROM subscriptions
      WHERE org = :org AND project IS NOT DISTINCT FROM CAST(:project AS text) AND state <> 'cancelled')
""")

SELECT_PAUSED = text("SELECT paused FROM organizations WHERE id = :org")

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM subscriptions s
    WHERE s.id > :after AND (CAST(:org AS text) IS NULL OR s.org = :org) ORDER BY s.id LIMIT :limit
""")

SELECT_STEPS = text("""
    SELECT version, event, at, plan, state, lines FROM subscription_steps
    WHERE subscription = :id ORDER BY version DESC LIMIT :limit
""")
