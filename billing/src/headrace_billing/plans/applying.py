"""Carrying out a step: the subscription, its history, its charges, its credit and what it allows, in one transaction.

The caller holds the subscription's lock, and every step raises its version: whatever dies on the way has done nothing,
and whoever comes next finds the step still to be done, or done.
"""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.entitlement import Entitlement
from headrace_billing.accounts.entitling import end_entitlement, entitle
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger import grants_store, wallets
from headrace_billing.ledger.grant import BalanceTooLarge, Grant, GrantKind, GrantSource
from headrace_billing.plans import store
from headrace_billing.plans.charging import charge
from headrace_billing.plans.passing import due
from headrace_billing.plans.subscription import SERVED, Event, Step, Subscription

log = structlog.get_logger()

STEPS_AT_ONCE_MAX = 100
"""Of one subscription in one transaction: eight years of months that nobody looked after."""


async def begin(session: AsyncSession, subscription: Subscription, *, now: datetime) -> list[str]:
    """The Valkey keys of what changed. Raises `SubscriptionExists`."""
    await store.add(session, subscription)
    await store.add_step(session, Step(subscription, Event.CREATED, now))
    return (await catch_up(session, subscription, now=now))[1]


async def catch_up(
    session: AsyncSession, subscription: Subscription, *, now: datetime
) -> tuple[Subscription, list[str]]:
    """All that time has done to it by now, or the first part of it."""
    places: list[str] = []
    for _ in range(STEPS_AT_ONCE_MAX):
        step = due(subscription, now)
        if step is None:
            break
        places += await apply(session, subscription, step, now=now)
        subscription = step.after
    return subscription, places


async def apply(session: AsyncSession, before: Subscription, step: Step, *, now: datetime) -> list[str]:
    """The Valkey keys of what changed, to push once the transaction stands."""
    after = step.after
    assert after.version == before.version + 1, (
        f"{after.id}: from version {before.version} to {after.version}"
    )
    await store.save(session, after)
    await store.add_step(session, step)
    await charge(session, step, now=now)
    await _give_credit(session, step, now=now)
    return await _entitle(session, before, after)


async def _give_credit(session: AsyncSession, step: Step, *, now: datetime) -> None:
    after, until = step.after, step.credit_until
    minor = after.terms.plan.entitlements.credit_minor
    # Of a period that was over before anybody looked, nothing could be spent any more.
    if not minor or after.wallet is None or until is None or until <= now:
        return
    holdings = (await wallets.lock(session, [after.wallet]))[after.wallet]
    grant = Grant(
        id=f"lot_{after.id}_{after.version}",
        wallet=after.wallet,
        currency=after.currency,
        amount_nanos=minor * nanos_per_minor(after.currency),
        kind=GrantKind.PROMO,
        source=GrantSource.MANUAL,
        reason=f"{after.terms.plan.name}, {step.at:%Y-%m-%d}",
        at=now,
        expires_at=until,
        scope=after.project,
    )
    try:
        await grants_store.give(session, grant, holdings)
    except BalanceTooLarge:
        # A gift that the wallet can't hold must not keep the period from its course.
        log.error("plan_credit_not_given", subscription=after.id, wallet=after.wallet)  # noqa: TRY400 - that is all


async def _entitle(session: AsyncSession, before: Subscription, after: Subscription) -> list[str]:
    if after.state not in SERVED:
        return await end_entitlement(session, after.id)
    if before.state in SERVED and before.terms == after.terms:
        return []
    models = after.terms.plan.entitlements.models
    return await entitle(
        session,
        Entitlement(
            subscription=after.id,
            org=after.org,
            project=after.project,
            limits=after.terms.limits(after.starts_at),
            models=None if models is None else list(models),
            pays_for_requests=after.terms.pays_for_requests,
        ),
    )
