"""Plans and subscriptions for tests of rules; what a test does not name does not matter to it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headrace_billing.plans.passing import due
from headrace_billing.plans.period import Interval
from headrace_billing.plans.plan import AddOn, Plan, Terms
from headrace_billing.plans.subscription import State, Step, Subscription

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def plan(code: str = "pro", price_minor: int = 7200, **fields: Any) -> Plan:
    defaults: dict[str, Any] = {
        "version": 1,
        "name": code.capitalize(),
        "currency": "USD",
        "interval": Interval.MONTH,
        "seat_price_minor": 1500,
        "seats_max": 100,
        "add_ons": {
            "support": AddOn(code="support", name="Support", price_minor=999, recurring=True),
            "setup": AddOn(code="setup", name="Set-up", price_minor=5000, recurring=False),
        },
    }
    return Plan(code=code, price_minor=price_minor, **(defaults | fields))


def subscription(terms: Terms | None = None, **fields: Any) -> Subscription:
    """One that has not started."""
    defaults: dict[str, Any] = {
        "id": "sub_1",
        "org": "org_1",
        "project": None,
        "wallet": None,
        "terms": terms or Terms(plan(), 1),
        "state": State.SCHEDULED,
        "starts_at": START,
        "anchor": START,
        "number": 0,
        "period": None,
        "created_at": START,
    }
    return Subscription(**(defaults | fields))


def active(terms: Terms | None = None, **fields: Any) -> Subscription:
    """One whose first period has begun."""
    step = due(subscription(terms), START)
    assert step is not None
    return replace(step.after, **fields)


def caught_up(before: Subscription, now: datetime) -> tuple[Subscription, list[Step]]:
    steps = []
    while (step := due(before, now)) is not None:
        steps.append(step)
        before = step.after
    return before, steps
