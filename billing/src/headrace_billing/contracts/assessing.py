"""Looking at what a contract is due, month by month and period by period, and charging what of it was not charged.

Nothing is due before its time is over and late events have had some hours. Everything is looked at again for as long
as events may come late; what they change is one more charge that names its time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store as charges
from headrace_billing.charges.charge import ChargeKind
from headrace_billing.contracts import store, used_store
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.drawdown import (
    NOTHING_USED,
    Used,
    minimum_nanos,
    overage_by_month,
    surcharge_nanos,
    true_up_nanos,
)
from headrace_billing.contracts.dues import Due, differences
from headrace_billing.contracts.gpu_fee import GpuTime, gpu_dues, gpu_time
from headrace_billing.contracts.term import month_span
from headrace_billing.contracts.terms import GpuRate
from headrace_billing.ids import new_id

SETTLES_AFTER = timedelta(hours=5)
"""Late enough for what comes late, and before the six hours are over after which invoices become final."""


LATE_FOR = timedelta(days=40)
"""Usage is taken up to 35 days late without anybody's approval."""


@dataclass(frozen=True, slots=True)
class Fees:
    """Of one month, by what a customer pays for it."""

    used: Used
    overage_nanos: int
    """At list price; part of what was used."""
    surcharge_nanos: int
    gpu: Mapping[tuple[str, str], tuple[GpuRate, GpuTime, list[Due]]]
    """By deployment and profile."""

    @property
    def gpu_nanos(self) -> int:
        return sum(due.nanos for _, _, dues in self.gpu.values() for due in dues)

    @property
    def spent_nanos(self) -> int:
        return self.used.total_nanos + self.surcharge_nanos + self.gpu_nanos

    def deployment_nanos(self, deployment: str) -> int:
        """Its GPU time."""
        return sum(
            due.nanos for (of, _), (_, _, dues) in self.gpu.items() if of == deployment for due in dues
        )


async def fees_by_month(
    session: AsyncSession, contract: Contract, *, since: datetime, until: datetime
) -> dict[date, Fees]:
    """Of the months of the term that begin before `until`; GPU time of those alone that end after `since`."""
    used = await used_store.by_month(session, contract)
    months = [month for month in contract.term.every_month() if month_span(month).start < until]
    commitments = {
        index: commitment
        for index in range(contract.term.periods)
        if (commitment := contract.terms(index).commitment) is not None
    }
    overage = overage_by_month(used, term=contract.term, commitments=commitments, months=months)
    found = {}
    for month in months:
        span, terms = month_span(month), contract.terms_of_month(month)
        gpu = {}
        for rate in terms.gpu_rates if span.end > since else ():
            measured = await used_store.gpu_time(session, contract, rate, span)
            time = gpu_time(rate, measured.by_hour, span=span, estimated_ms=measured.estimated_ms)
            gpu[rate.deployment, rate.profile] = (rate, time, gpu_dues(rate, time, span=span))
        beyond, commitment = overage[month], terms.commitment
        found[month] = Fees(
            used=used.get(month, NOTHING_USED),
            overage_nanos=beyond,
            surcharge_nanos=0 if commitment is None else surcharge_nanos(beyond, commitment),
            gpu=gpu,
        )
    return found


def dues_of(contract: Contract, fees: Mapping[date, Fees], *, since: datetime, now: datetime) -> list[Due]:
    """Of months and periods that have settled, and that ended after `since`."""
    settled = now - SETTLES_AFTER
    found: list[Due] = []
    for month, of in fees.items():
        if since < month_span(month).end <= settled:
            found += _of_month(contract, month, of)
    for index in range(contract.term.periods):
        span, postpaid = contract.term.period(index), contract.terms(index).postpaid
        if postpaid is None or not since < span.end <= settled:
            continue
        used = sum(
            of.used.afterwards_nanos for month, of in fees.items() if contract.term.period_of(month) == index
        )
        committed = postpaid.amount_nanos(index)
        found.append(
            Due(
                key=f"true-up:{index}",
                kind=ChargeKind.TRUE_UP,
                label=f"{contract.name}: rest of the commitment, period {index + 1} of {contract.term.periods}",
                span=span,
                quantity=1,
                unit="period",
                nanos=true_up_nanos(committed_nanos=committed, used_nanos=used),
            )
        )
    return found


def _of_month(contract: Contract, month: date, fees: Fees) -> list[Due]:
    terms, span = contract.terms_of_month(month), month_span(month)
    found = [due for _, _, dues in fees.gpu.values() for due in dues]
    if terms.commitment is not None:
        found.append(
            Due(
                key=f"overage:{month:%Y-%m}",
                kind=ChargeKind.OVERAGE,
                label=f"{contract.name}: rate of usage beyond the commitment, {month:%Y-%m}",
                span=span,
                quantity=1,
                unit="month",
                nanos=fees.surcharge_nanos,
            )
        )
    short = minimum_nanos(minimum_nanos=terms.minimum_nanos, spent_nanos=fees.spent_nanos)
    found.append(
        Due(
            key=f"minimum:{month:%Y-%m}",
            kind=ChargeKind.MINIMUM,
            label=f"{contract.name}: rest of the month's minimum, {month:%Y-%m}",
            span=span,
            quantity=1,
            unit="month",
            nanos=short,
        )
    )
    return found


async def charge_differences(
    session: AsyncSession, contract: Contract, fees: Mapping[date, Fees], *, since: datetime, now: datetime
) -> int:
    """How many charges were made. The contract must be locked."""
    found = differences(
        dues_of(contract, fees, since=since, now=now), await store.charged(session, contract.id)
    )
    put = [
        one.charge(
            contract.id,
            charge=new_id("chg", now),
            organization=contract.organization,
            currency=contract.currency,
        )
        for one in found
    ]
    ids = await charges.put(session, put)
    for one, charge in zip(found, ids, strict=True):
        due = one.due
        await store.add_due(
            session, contract.id, due.key, one.number, quantity=due.quantity, nanos=due.nanos, charge=charge
        )
    return len(found)
