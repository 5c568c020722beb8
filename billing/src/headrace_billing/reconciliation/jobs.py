"""Reconciling as it goes on: a look at every stage, again and again, each with the time that it is as of.

Nothing depends on it but who looks at it and who is called, for metrics tell what the last looks saw: what an invoice is held to is reconciled anew when a
period is closed, for just that customer and time.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.reconciliation import books_store, looks_store
from headrace_billing.reconciliation.books import Check, count_checks, money_checks
from headrace_billing.reconciliation.reconciling import (
    blame_gaps,
    blame_kept_aside,
    compare_engine,
)
from headrace_billing.reconciliation.report import BEGINNING, Scope, Tally
from headrace_billing.reconciliation.request import Graces, Status
from headrace_billing.reconciliation.stage import CULPRITS_KEPT_MAX, DAYS, Look, Side, Stage, due

log = structlog.get_logger()

GRACES = Graces()

TOKENS = "tokens"
"""The unit of the engine's stage."""


async def look_around(database: Database, *, now: datetime) -> None:
    """One look at each stage. Does nothing while another process looks."""
    async with database.begin() as turn:
        if not await looks_store.take_turn(turn):
            return
        today = now.astimezone(UTC).date()
        for day in due(await looks_store.days(turn), today=today):
            async with database.snapshot() as session:
                looks = await _look_at_day(session, day, now=now)
            await _keep(turn, looks)
        async with database.snapshot() as session:
            looks = await _look_at_books(session, now=now)
        await _keep(turn, looks)
        await looks_store.forget(turn, before=today - timedelta(days=DAYS), stages=list(Stage))


async def _look_at_day(session: AsyncSession, day: date, *, now: datetime) -> list[Look]:
    start = datetime.combine(day, time(), UTC)
    scope = Scope(None, start, start + timedelta(days=1))
    engine = Tally()
    await compare_engine(session, scope, engine, now=now, graces=GRACES)
    named = sum(tokens.total for tokens in engine.named.values())
    counted = count_checks(*await books_store.counts(session, scope))
    return [
        _look(
            Stage.ENGINE,
            day,
            engine,
            now,
            [Side(TOKENS, engine.yielded.total - named, (engine.billed - engine.unwitnessed).total)],
        ),
        _checked(Stage.ROLLUPS, day, counted, now),
    ]


async def _look_at_books(session: AsyncSession, *, now: datetime) -> list[Look]:
    ever = Scope(None, BEGINNING, now)
    aside, gaps = Tally(), Tally()
    await blame_kept_aside(session, ever, aside)
    await blame_gaps(session, ever, gaps, now=now, graces=GRACES)
    by_stage: dict[Stage, list[Check]] = {Stage.RATED: [], Stage.LEDGER: [], Stage.INVOICES: []}
    # This month and the one before: what is older changes by late usage alone, which a close is held to.
    lately = Scope(None, now - timedelta(days=now.day), now)
    for money in await books_store.money(session, lately, rate_events=False):
        for check in money_checks(money):
            by_stage[_stage_of(check)].append(check)
    return [
        _look(Stage.KEPT_ASIDE, None, aside, now, []),
        _look(Stage.METERS, None, gaps, now, []),
        *(_checked(stage, None, checks, now) for stage, checks in by_stage.items()),
    ]


def _stage_of(check: Check) -> Stage:
    match check.name.partition(":"):
        case ("usage", _, what) if what.endswith("= ledger"):
            return Stage.LEDGER
        case ("usage", _, _):
            return Stage.RATED
        case _:
            return Stage.INVOICES


def _checked(stage: Stage, day: date | None, checks: Sequence[Check], now: datetime) -> Look:
    tally = Tally()
    tally.check(checks)
    sides = [
        Side(
            check.name if check.currency is None else f"{check.name}, {check.currency} nanos",
            check.left,
            check.right,
        )
        for check in checks
    ]
    return _look(stage, day, tally, now, sides)


def _look(stage: Stage, day: date | None, tally: Tally, now: datetime, sides: Sequence[Side]) -> Look:
    # The worst first: only so many are kept.
    culprits = sorted(tally.culprits, key=lambda one: one.status is not Status.RED)
    return Look(
        stage,
        day,
        now,
        tally.status,
        sides,
        culprits[:CULPRITS_KEPT_MAX],
        sum(tally.reasons.values()),
        tally.reasons,
        tally.unwitnessed_requests,
    )


async def _keep(session: AsyncSession, looks: Sequence[Look]) -> None:
    for look in looks:
        before = await looks_store.keep(session, look)
        if look.status is Status.RED and before is not Status.RED:
            log.error(
                "reconciliation_red",
                stage=look.stage,
                day=None if look.day is None else look.day.isoformat(),
                culprits=look.culprits_count,
            )
