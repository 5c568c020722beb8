"""A plan: what it costs for each interval, and what it lets its subscribers do.

A version of a plan never changes once it is published; a subscription goes by the version that it was made with until
somebody changes the subscription. Prices are integers of the currency's minor unit, so that a period's amount is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from headrace_billing.accounts.key import microseconds
from headrace_billing.errors import BillingError
from headrace_billing.plans.period import MONTHS, MONTHS_OF_YEAR, Interval
from headrace_contracts.access import Limit, LimitKind, WindowShape


class PlanInvalid(BillingError):
    """Not a plan that could be sold, or not what the plan sells."""

    code = "plan_invalid"


class PlanVersionPublished(BillingError):
    """The version is there with other content, and is what it is for good."""

    code = "plan_version_published"

    def __init__(self, code: str, version: int, *, newest: int, subscriptions: int) -> None:
        super().__init__(
            f"Version {version} of {code} is published and never changes; {subscriptions} subscriptions go by it. "
            f"Publish the edited plan as version {newest + 1}, and change subscriptions to it."
        )


class PlanVersionSkipped(BillingError):
    """Versions follow each other."""

    code = "plan_version_skipped"

    def __init__(self, code: str, *, newest: int) -> None:
        super().__init__(f"The next version of {code} is {newest + 1}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOn:
    code: str
    name: str
    price_minor: int
    recurring: bool
    """Charged each period; else once, when it is bought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlements:
    limits: tuple[Limit, ...] = ()
    limits_per_seat: bool = False
    """Ceilings are those of one seat."""
    models: tuple[str, ...] | None = None
    """Null means all."""
    credit_minor: int = 0
    """A gift at the beginning of each period that is paid for, until its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    code: str
    version: int
    name: str
    currency: str
    interval: Interval
    price_minor: int
    seat_price_minor: int = 0
    seats_included: int = 1
    seats_max: int = 1
    trial_days: int = 0
    add_ons: Mapping[str, AddOn] = field(default_factory=dict)
    entitlements: Entitlements = Entitlements()

    @property
    def id(self) -> str:
        return f"plan_{self.code}_{self.version}"


@dataclass(frozen=True, slots=True)
class Item:
    """What is charged for a period."""

    code: str
    label: str
    quantity: int
    unit_minor: int

    @property
    def amount_minor(self) -> int:
        return self.quantity * self.unit_minor


PLAN, SEATS = "plan", "seats"


@dataclass(frozen=True, slots=True)
class Terms:
    """What is subscribed to: a version of a plan and how much of it."""

    plan: Plan
    seats: int
    add_ons: Mapping[str, int] = field(default_factory=dict)
    """Of the recurring ones, how many of each."""

    def check(self) -> None:
        """Raises `PlanInvalid`."""
        if not 1 <= self.seats <= self.plan.seats_max:
            raise PlanInvalid(f"{self.plan.id} has from 1 to {self.plan.seats_max} seats, not {self.seats}.")
        for code in self.add_ons:
            if not add_on_of(self.plan, code).recurring:
                raise PlanInvalid(f"{self.plan.id} sells {code!r} once, not each period: name it in `buy`.")

    def items(self) -> tuple[Item, ...]:
        """Of one whole period; those that cost nothing are left out."""
        plan = self.plan
        further = max(0, self.seats - plan.seats_included)
        every = [
            Item(PLAN, plan.name, 1, plan.price_minor),
            Item(SEATS, f"{plan.name}, further seats", further, plan.seat_price_minor),
        ]
        for code, quantity in sorted(self.add_ons.items()):
            add_on = plan.add_ons[code]
            every.append(Item(f"add-on.{code}", f"{plan.name}, {add_on.name}", quantity, add_on.price_minor))
        return tuple(item for item in every if item.amount_minor)

    @property
    def yearly_minor(self) -> int:
        """What tells more from less."""
        return sum(item.amount_minor for item in self.items()) * (
            MONTHS_OF_YEAR // MONTHS[self.plan.interval]
        )

    def limits(self, since: datetime) -> list[Limit]:
        """A fixed window that names no anchor begins with the subscription, and so does each subscriber's own."""
        granted = self.plan.entitlements
        times = self.seats if granted.limits_per_seat else 1
        return [_of_subscriber(limit, times=times, since=since) for limit in granted.limits]

    @property
    def pays_for_requests(self) -> bool:
        """Its windows are what requests are paid with; without any it only bounds and allows."""
        return any(limit.kind is LimitKind.WINDOW for limit in self.plan.entitlements.limits)


def _of_subscriber(limit: Limit, *, times: int, since: datetime) -> Limit:
    window = limit.window
    if window is not None and window.shape is WindowShape.FIXED and not window.anchor_us:
        window = msgspec.structs.replace(window, anchor_us=microseconds(since))
    return msgspec.structs.replace(
        limit, ceiling=limit.ceiling * times, window=window, pays=window is not None
    )


def add_on_of(plan: Plan, code: str) -> AddOn:
    """Raises `PlanInvalid`."""
    if code not in plan.add_ons:
        raise PlanInvalid(f"{plan.id} has no add-on {code!r}: it has {', '.join(plan.add_ons) or 'none'}.")
    return plan.add_ons[code]
