"""A contract as it is written down: decimal strings for amounts, rates, shares and percentages."""

from datetime import date
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from headrace_billing.bodies import PRINTABLE, Amount, Body, Currency, Id, Name
from headrace_billing.contracts.term import MONTHS_MAX, Cadence, ContractInvalid, Term
from headrace_billing.contracts.terms import (
    MILLION,
    Commitment,
    FeeOf,
    Funding,
    GpuRate,
    Measure,
    Rollover,
    ServiceLevel,
    Terms,
    Tier,
    WhenUsedUp,
)
from headrace_billing.gpu_time.arrival import ACCELERATORS_MAX, NAME_CHARACTERS_MAX
from headrace_billing.money import nanos_of
from headrace_billing.rating.price import parse_price

PERIODS_MAX = MONTHS_MAX
PROJECTS_MAX = 20
"""More than one request may name, as anywhere."""
RATES_MAX = 50
LEVELS_MAX = 20
TIERS_MAX = 10
WITHIN_MS_MAX = 24 * 3_600_000
MULTIPLIER_MAX = 100
PERCENT = 100

Deployment = Annotated[
    str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=PRINTABLE)
]
Decimal = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$")]
Percent = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$")]


class RolloverBody(Body):
    share: Decimal = "1"
    """Of what a period leaves."""
    cap: Amount | None = None
    periods: Annotated[int, Field(ge=1, le=PERIODS_MAX)] = 1
    """How long it may still be used."""


class CommitmentBody(Body):
    funding: Funding
    amounts: Annotated[list[Amount], Field(min_length=1, max_length=PERIODS_MAX)]
    """Of each period; the last holds on."""
    when_used_up: WhenUsedUp = WhenUsedUp.OVERAGE
    overage_times: Decimal = "1"
    """What usage beyond the commitment costs, as a multiple of its price."""
    rollover: RolloverBody | None = None


class GpuRateBody(Body):
    deployment: Deployment
    profile: Deployment
    accelerators: Annotated[int, Field(ge=0, le=ACCELERATORS_MAX)]
    """Reserved."""
    reserved_rate: Amount
    """A GPU-hour."""
    on_demand_rate: Amount


class TierBody(Body):
    below: Percent
    credit: Percent


class ServiceLevelBody(Body):
    name: Id
    deployment: Deployment
    measure: Measure
    within_ms: Annotated[int, Field(ge=1, le=WITHIN_MS_MAX)] | None = None
    fee_of: FeeOf = FeeOf.DEPLOYMENT
    tiers: Annotated[list[TierBody], Field(min_length=1, max_length=TIERS_MAX)]

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if (self.within_ms is not None) != (self.measure in (Measure.FIRST_TOKEN, Measure.ANSWER)):
            msg = "within_ms goes with the measures first_token and answer, and with no other"
            raise ValueError(msg)
        return self


class TermsBody(Body):
    commitment: CommitmentBody | None = None
    rates: Annotated[list[Decimal], Field(default_factory=list, max_length=PERIODS_MAX)]
    """What list prices are multiplied by in each period; the last holds on."""
    minimum_monthly: Amount | None = None
    gpu_rates: Annotated[list[GpuRateBody], Field(default_factory=list, max_length=RATES_MAX)]
    service_levels: Annotated[list[ServiceLevelBody], Field(default_factory=list, max_length=LEVELS_MAX)]
    credit_cap: Percent = "100"
    """Of a month's fees."""

    def terms(self) -> Terms:
        """Raises `AmountInvalid`, `ContractInvalid`."""
        return Terms(
            commitment=None if self.commitment is None else _commitment(self.commitment),
            rates_millionths=tuple(_multiplier("rates", rate) for rate in self.rates),
            minimum_nanos=None if self.minimum_monthly is None else nanos_of(self.minimum_monthly),
            gpu_rates=tuple(
                GpuRate(
                    deployment=rate.deployment,
                    profile=rate.profile,
                    accelerators=rate.accelerators,
                    reserved_nanos=nanos_of(rate.reserved_rate),
                    on_demand_nanos=nanos_of(rate.on_demand_rate),
                )
                for rate in self.gpu_rates
            ),
            service_levels=tuple(
                ServiceLevel(
                    name=level.name,
                    deployment=level.deployment,
                    measure=level.measure,
                    within_ms=level.within_ms,
                    fee_of=level.fee_of,
                    tiers=tuple(Tier(_percent(tier.below), _percent(tier.credit)) for tier in level.tiers),
                )
                for level in self.service_levels
            ),
            credit_cap_millionths=_percent(self.credit_cap),
        )


class NewContract(Body):
    organization: Id
    name: Name
    currency: Currency
    starts_on: date
    months: Annotated[int, Field(ge=1, le=MONTHS_MAX)]
    cadence: Cadence
    projects: Annotated[list[Id], Field(min_length=1, max_length=PROJECTS_MAX)]
    terms: TermsBody

    @property
    def term(self) -> Term:
        return Term(self.starts_on, self.months, self.cadence)


class Amendment(Body):
    effective_on: date
    """The first day of a period that has not begun."""
    terms: TermsBody
    """All of them, also those that stay as they are."""
    reason: Name


class Ending(Body):
    ends_on: date
    """Where a period ends; exclusive."""
    reason: Name


class MaintenanceWindow(Body):
    deployment: Deployment
    start: AwareDatetime
    end: AwareDatetime
    reason: Name


class Reversal(Body):
    reason: Name


def _commitment(body: CommitmentBody) -> Commitment:
    rollover = body.rollover
    return Commitment(
        funding=body.funding,
        amounts_nanos=tuple(nanos_of(amount) for amount in body.amounts),
        when_used_up=body.when_used_up,
        overage_millionths=_multiplier("overage_times", body.overage_times),
        rollover=None
        if rollover is None
        else Rollover(
            share_millionths=_share(rollover.share),
            cap_nanos=None if rollover.cap is None else nanos_of(rollover.cap),
            periods=rollover.periods,
        ),
    )


def _millionths(written: str) -> int:
    """`"1.25"` → 1 250 000."""
    return parse_price(written) // MILLION


def _multiplier(name: str, written: str) -> int:
    found = _millionths(written)
    if not 0 < found <= MULTIPLIER_MAX * MILLION:
        raise ContractInvalid(f"{name}: {written} is not above 0 and at most {MULTIPLIER_MAX}.")
    return found


def _share(written: str) -> int:
    found = _millionths(written)
    if found > MILLION:
        raise ContractInvalid(f"share: {written} is more than 1.")
    return found


def _percent(written: str) -> int:
    """`"99.9"` → 999 000."""
    found = _millionths(written)
    if found > PERCENT * MILLION:
        raise ContractInvalid(f"{written} is more than 100 percent.")
    return found // PERCENT


def written(body: TermsBody) -> dict[str, Any]:
    """As it is kept and shown."""
    return body.model_dump(mode="json")
