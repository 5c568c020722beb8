"""Plans as they are written down: in a file, in a request, in the database, in an answer. One form for all four."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from headrace_billing.accounts.access_bodies import Models
from headrace_billing.accounts.limit_bodies import LimitBody, Limits, limits_of
from headrace_billing.bodies import Body, Currency, Name
from headrace_billing.invoicing.amounts import minor_digits, nanos_per_minor, plain
from headrace_billing.money import AMOUNT_MAX_MAJOR, MICROS_MAX, NANOS_PER_MAJOR, currency_of
from headrace_billing.plans.period import Interval
from headrace_billing.plans.plan import AddOn, Entitlements, Plan, PlanInvalid
from headrace_contracts.access import BUDGETS, LimitKind
from headrace_contracts.counters import RATE_CEILING_MAX

ADD_ONS_MAX = 50
SEATS_MAX = 10_000
TRIAL_DAYS_MAX = 365
VERSION_MAX = 10**6

Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Price = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$")]
"""A decimal string of whole minor units of the plan's currency; it may be zero."""


class AddOnBody(Body):
    code: Code
    name: Name
    price: Price
    recurring: bool = True
    """Charged each period; else once, when it is bought."""


class EntitlementsBody(Body):
    limits: Limits = ()
    limits_per_seat: bool = False
    """Ceilings are of one seat, and grow with their number."""
    models: Models | None = None
    """Null means all."""
    credit: Price = "0"
    """Promotional credit for each period that is charged, until its end."""


class PlanBody(Body):
    code: Code
    version: Annotated[int, Field(ge=1, le=VERSION_MAX)]
    name: Name
    currency: Currency
    interval: Interval
    price: Price
    """Of an interval."""
    seat_price: Price = "0"
    """Of each seat beyond those that are included, for an interval."""
    seats_included: Annotated[int, Field(ge=1, le=SEATS_MAX)] = 1
    seats_max: Annotated[int, Field(ge=1, le=SEATS_MAX)] = 1
    trial_days: Annotated[int, Field(ge=0, le=TRIAL_DAYS_MAX)] = 0
    add_ons: Annotated[tuple[AddOnBody, ...], Field(max_length=ADD_ONS_MAX)] = ()
    entitlements: EntitlementsBody = EntitlementsBody()

    @model_validator(mode="after")
    def _consistent(self) -> "PlanBody":
        if self.seats_max < self.seats_included:
            raise ValueError("seats_max: at least seats_included")
        codes = [add_on.code for add_on in self.add_ons]
        if len(set(codes)) != len(codes):
            raise ValueError("add_ons: each code once")
        for limit in self.entitlements.limits:
            _check(limit, self.seats_max if self.entitlements.limits_per_seat else 1)
        return self


def plan_of(body: PlanBody) -> Plan:
    """Raises `PlanInvalid`, `CurrencyUnknown`."""
    currency = currency_of(body.currency)
    granted = body.entitlements
    return Plan(
        code=body.code,
        version=body.version,
        name=body.name,
        currency=currency,
        interval=body.interval,
        price_minor=_minor(body.price, currency, "price"),
        seat_price_minor=_minor(body.seat_price, currency, "seat_price"),
        seats_included=body.seats_included,
        seats_max=body.seats_max,
        trial_days=body.trial_days,
        add_ons={
            one.code: AddOn(
                code=one.code,
                name=one.name,
                price_minor=_minor(one.price, currency, f"add_ons.{one.code}.price"),
                recurring=one.recurring,
            )
            for one in body.add_ons
        },
        entitlements=Entitlements(
            limits=tuple(limits_of(granted.limits)),
            limits_per_seat=granted.limits_per_seat,
            models=None if granted.models is None else tuple(granted.models),
            credit_minor=_minor(granted.credit, currency, "entitlements.credit"),
        ),
    )


def written(body: PlanBody) -> dict[str, Any]:
    """With each amount in the one form that it is told in, so that equal plans are written alike."""
    found: dict[str, Any] = body.model_dump(mode="json")
    plan = plan_of(body)

    def told(minor: int) -> str:
        return plain(minor, plan.currency)

    found |= {"price": told(plan.price_minor), "seat_price": told(plan.seat_price_minor)}
    found["entitlements"]["credit"] = told(plan.entitlements.credit_minor)
    for add_on in found["add_ons"]:
        add_on["price"] = told(plan.add_ons[add_on["code"]].price_minor)
    return found


def _check(limit: LimitBody, times: int) -> None:
    if limit.kind in BUDGETS:
        raise ValueError("entitlements.limits: a plan counts no money; set budgets on the organization")
    ceiling_max = MICROS_MAX if limit.kind is LimitKind.WINDOW else RATE_CEILING_MAX
    if limit.ceiling * times >= ceiling_max:
        raise ValueError(f"entitlements.limits: all seats together must stay below {ceiling_max}")


def _minor(price: str, currency: str, name: str) -> int:
    nanos = int(Decimal(price) * NANOS_PER_MAJOR)
    minor, rest = divmod(nanos, nanos_per_minor(currency))
    if rest:
        digits = minor_digits(currency)
        raise PlanInvalid(f"{name}: {price} has more than the {digits} decimal places of {currency}.")
    if nanos > AMOUNT_MAX_MAJOR * NANOS_PER_MAJOR:
        raise PlanInvalid(f"{name}: at most {AMOUNT_MAX_MAJOR}.")
    return minor
