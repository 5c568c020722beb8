"""Service credits: each level of a month looked at once it has settled, and credited once by what it attained.

A credit that stands is not changed by itself. When the figures do change, two members take it back, and the month is
looked at anew; the same figures are never credited twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store as charges
from headrace_billing.charges.charge import Charge, ChargeKind, Recognition
from headrace_billing.contracts import level_store
from headrace_billing.contracts.assessing import SETTLES_AFTER, Fees
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.dues import MICROSECOND
from headrace_billing.contracts.level_store import ServiceCredit
from headrace_billing.contracts.service_level import (
    Attainment,
    credit_nanos,
    of_minutes,
    of_requests,
    tier_of,
)
from headrace_billing.contracts.term import month_span
from headrace_billing.contracts.terms import MILLION, FeeOf, Measure, ServiceLevel, Terms, Tier
from headrace_billing.errors import BillingError, NotFound
from headrace_billing.ids import new_id
from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.usage import Span


class AlreadyReversed(BillingError):
    """A credit is taken back once."""

    code = "credit_reversed"

    def __init__(self, credit: str) -> None:
        super().__init__(f"{credit} was taken back already.")


@dataclass(frozen=True, slots=True)
class Assessed:
    level: ServiceLevel
    attainment: Attainment
    tier: Tier | None
    fee_nanos: int
    nanos: int
    """What it credits."""


async def attained(session: AsyncSession, org: str, level: ServiceLevel, span: Span) -> Attainment:
    """In [start, end), which are whole hours."""
    minutes = await level_store.minutes(session, org, level, span)
    windows = await level_store.windows(session, level.deployment, span)
    seen = (
        await level_store.hours_seen(session, org, level.deployment, span)
        if level.measure is Measure.MINUTES
        else frozenset()
    )
    by_minute = of_minutes(minutes, span=span, seen=seen, maintenance=[window.span for window in windows])
    return (
        by_minute if level.measure is Measure.MINUTES else of_requests(minutes, excluded=by_minute.excluded)
    )


async def assess_levels(
    session: AsyncSession, contract: Contract, terms: Terms, fees: Fees, *, span: Span
) -> list[Assessed]:
    """In the order of the terms, which is in which the cap is used up."""
    room = divided_half_away(fees.spent_nanos * terms.credit_cap_millionths, MILLION)
    found = []
    for level in terms.service_levels:
        attainment = await attained(session, contract.organization, level, span)
        fee = fees.spent_nanos if level.fee_of is FeeOf.CONTRACT else fees.deployment_nanos(level.deployment)
        tier = tier_of(level, attainment)
        nanos = credit_nanos(tier, fee_nanos=fee, room_nanos=room)
        room -= nanos
        found.append(Assessed(level, attainment, tier, fee, nanos))
    return found


async def credit_months(
    session: AsyncSession, contract: Contract, fees: Mapping[date, Fees], *, since: datetime, now: datetime
) -> int:
    """Posts what months credit that have settled and that ended after `since`; how many. The contract must be locked."""
    before: dict[tuple[date, str], list[ServiceCredit]] = {}
    for credit in await level_store.credits_of(session, contract.id):
        before.setdefault((credit.month, credit.level), []).append(credit)
    made = 0
    for month, of in fees.items():
        span, terms = month_span(month), contract.terms_of_month(month)
        if not since < span.end <= now - SETTLES_AFTER:
            continue
        standing = {
            level.name for level in terms.service_levels if _stands(before.get((month, level.name), []))
        }
        if len(standing) == len(terms.service_levels):
            continue
        for one in await assess_levels(session, contract, terms, of, span=span):
            known = before.get((month, one.level.name), [])
            if one.level.name not in standing and one.nanos and one.nanos not in {was.nanos for was in known}:
                await _credit(session, contract, one, month=month, number=len(known) + 1, now=now)
                made += 1
    return made


def _stands(made: list[ServiceCredit]) -> bool:
    return any(credit.reversed_at is None for credit in made)


async def _credit(
    session: AsyncSession, contract: Contract, one: Assessed, *, month: date, number: int, now: datetime
) -> None:
    label = f"{contract.name}: service credit for {one.level.name}, {month:%Y-%m}"
    charge = _charge(contract, f"{one.level.name}:{month:%Y-%m}:{number}", label, -one.nanos, month, now=now)
    (charged,) = await charges.put(session, [charge])
    await level_store.add_credit(
        session,
        ServiceCredit(
            id=new_id("svc", now),
            contract=contract.id,
            level=one.level.name,
            month=month,
            number=number,
            attainment=one.attainment,
            fee_nanos=one.fee_nanos,
            nanos=one.nanos,
            charge=charged,
            made_at=now,
        ),
    )


async def reverse(
    session: AsyncSession, contract: Contract, credit_id: str, *, now: datetime
) -> ServiceCredit:
    """Takes the credit back. Raises `NotFound`, `AlreadyReversed`."""
    credit = await level_store.credit_of(session, credit_id)
    if credit is None or credit.contract != contract.id:
        raise NotFound("service credit", credit_id)
    if credit.reversed_at is not None:
        raise AlreadyReversed(credit_id)
    label = f"{contract.name}: service credit for {credit.level}, {credit.month:%Y-%m}, taken back"
    of = f"{credit.level}:{credit.month:%Y-%m}:{credit.number}:reversed"
    (charged,) = await charges.put(
        session, [_charge(contract, of, label, credit.nanos, credit.month, now=now)]
    )
    await level_store.reverse(session, credit_id, charge=charged, at=now)
    return credit


def _charge(contract: Contract, of: str, label: str, nanos: int, month: date, *, now: datetime) -> Charge:
    span = month_span(month)
    return Charge(
        id=new_id("chg", now),
        reference=f"contract:{contract.id}:service-level:{of}",
        organization=contract.organization,
        currency=contract.currency,
        kind=ChargeKind.SERVICE_CREDIT,
        recognition=Recognition.AT_ONCE,
        label=label,
        quantity=1,
        unit="credit",
        amount_nanos=nanos,
        span=span,
        happened_at=span.end - MICROSECOND,
    )
