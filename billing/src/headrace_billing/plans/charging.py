"""A step's lines as charges in the books: deferred, and revenue by the seconds of the service that they are for.

A charge's reference names the version of the subscription that it came with, and each version is reached once.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store
from headrace_billing.charges.charge import Charge, ChargeKind, Recognition
from headrace_billing.ids import new_id
from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.plans.plan import PLAN, SEATS
from headrace_billing.plans.subscription import ONCE, Line, Step

KINDS = {PLAN: ChargeKind.PLAN, SEATS: ChargeKind.SEAT}
"""Whatever else is charged is an add-on."""


async def charge(session: AsyncSession, step: Step, *, now: datetime) -> None:
    await store.put(session, [_charge(step, line, now) for line in step.lines])


def _charge(step: Step, line: Line, now: datetime) -> Charge:
    after = step.after
    sign = "credit" if line.amount_minor < 0 else "charge"
    return Charge(
        id=new_id("chg", now),
        reference=f"{after.id}.{after.version}.{line.item}.{sign}",
        organization=after.org,
        project=after.project,
        currency=after.currency,
        kind=KINDS.get(line.item, ChargeKind.ADD_ON),
        recognition=Recognition.AT_ONCE if line.item.startswith(ONCE) else Recognition.OVER_TIME,
        label=f"{line.label}, time given back" if line.amount_minor < 0 else line.label,
        quantity=line.quantity,
        unit=after.terms.plan.interval
        if line.unit_minor is not None
        else f"part of a {after.terms.plan.interval}",
        unit_price=None if line.unit_minor is None else Decimal(plain(line.unit_minor, after.currency)),
        amount_nanos=line.amount_minor * nanos_per_minor(after.currency),
        span=line.span,
        happened_at=step.at,
    )
