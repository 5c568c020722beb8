"""From what a caller wants subscribed to a subscription that could begin, checked against the accounts."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store as accounts
from headrace_billing.errors import NotFound
from headrace_billing.ids import new_id
from headrace_billing.intervals import utc
from headrace_billing.ledger import wallets
from headrace_billing.plans import plan_store
from headrace_billing.plans.period import whole_second
from headrace_billing.plans.plan import Terms
from headrace_billing.plans.subscription import PlanChangeInvalid, State, Subscription
from headrace_billing.plans.wishes import Subscribing


async def drawn_up(
    session: AsyncSession, wish: Subscribing, *, now: datetime, starts_at: datetime | None = None
) -> Subscription:
    """Not stored. Raises `NotFound`, `PlanInvalid`, `PlanChangeInvalid`, `CurrencyMismatch`, `IntervalInvalid`."""
    plan = (await plan_store.published(session, wish.plan)).plan
    terms = Terms(plan, wish.seats, dict(wish.add_ons))
    terms.check()
    organization, wallet = await accounts.organization(session, wish.organization), wish.wallet
    if wish.project is not None:
        project = await accounts.project(session, wish.project)
        if project.org != organization.id:
            raise NotFound("project", wish.project)
        wallet = wallet or project.wallet
    if plan.entitlements.credit_minor:
        if wallet is None:
            raise PlanChangeInvalid(f"{plan.id} gives credit each period: name the `wallet` that it fills.")
        await wallets.require(session, wallet, org=organization.id, currency=plan.currency)
    begins = whole_second(now if starts_at is None else utc(starts_at))
    if begins < whole_second(now):
        raise PlanChangeInvalid("starts_at has passed already; leave it out to start now.")
    return Subscription(
        id=new_id("sub", now),
        org=organization.id,
        project=wish.project,
        wallet=wallet if plan.entitlements.credit_minor else None,
        terms=terms,
        state=State.SCHEDULED,
        starts_at=begins,
        anchor=begins,
        number=0,
        period=None,
        created_at=now,
    )
