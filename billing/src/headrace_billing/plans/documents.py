"""Plans, subscriptions and steps as the API shows them."""

from typing import Any, NotRequired, cast

from typing_extensions import TypedDict

from headrace_billing.invoicing.amounts import plain
from headrace_billing.plans.plan import Terms
from headrace_billing.plans.plan_store import Published
from headrace_billing.plans.subscription import SERVED, Line, Step, Subscription


class AddOnDocument(TypedDict):
    code: str
    name: str
    price: str
    recurring: bool


class EntitlementsDocument(TypedDict):
    limits: list[dict[str, Any]]
    limits_per_seat: bool
    models: list[str] | None
    credit: str


class PlanDocument(TypedDict):
    id: str
    code: str
    version: int
    name: str
    currency: str
    interval: str
    price: str
    seat_price: str
    seats_included: int
    seats_max: int
    trial_days: int
    add_ons: list[AddOnDocument]
    entitlements: EntitlementsDocument
    published_at: str


class TermsDocument(TypedDict):
    plan: str
    seats: int
    add_ons: dict[str, int]


class PeriodDocument(TypedDict):
    start: str
    end: str


class PlannedDocument(TypedDict):
    """Terms only where they change."""

    what: str
    plan: NotRequired[str]
    seats: NotRequired[int]
    add_ons: NotRequired[dict[str, int]]


class SubscriptionSummary(TermsDocument):
    id: str
    organization: str
    project: str | None
    wallet: str | None
    currency: str
    state: str
    in_force: bool
    pays_for_requests: bool
    starts_at: str
    period: PeriodDocument | None
    planned: PlannedDocument | None
    version: int
    created_at: str
    ended_at: str | None


class LineDocument(TypedDict):
    item: str
    description: str
    quantity: int
    amount: str
    start: str
    end: str


class TakenStepDocument(TypedDict):
    version: int
    event: str
    at: str
    plan: str
    state: str
    lines: list[LineDocument]


class SubscriptionDocument(SubscriptionSummary):
    steps: list[TakenStepDocument]


class StepDocument(TypedDict):
    event: str
    at: str
    lines: list[LineDocument]
    total: str
    currency: str


class PreviewDocument(TypedDict):
    subscription: SubscriptionSummary
    now: list[StepDocument]
    next: StepDocument | None


def plan_document(published: Published) -> PlanDocument:
    found = {
        "id": published.plan.id,
        **published.definition,
        "published_at": published.published_at.isoformat(),
    }
    return cast("PlanDocument", found)


def subscription_document(subscription: Subscription) -> SubscriptionSummary:
    period = subscription.period
    return {
        "id": subscription.id,
        "organization": subscription.org,
        "project": subscription.project,
        "wallet": subscription.wallet,
        **terms_document(subscription.terms),
        "currency": subscription.currency,
        "state": subscription.state,
        "in_force": subscription.state in SERVED,
        "pays_for_requests": subscription.state in SERVED and subscription.terms.pays_for_requests,
        "starts_at": subscription.starts_at.isoformat(),
        "period": None
        if period is None
        else {"start": period.start.isoformat(), "end": period.end.isoformat()},
        "planned": _planned(subscription),
        "version": subscription.version,
        "created_at": subscription.created_at.isoformat(),
        "ended_at": None if subscription.ended_at is None else subscription.ended_at.isoformat(),
    }


def terms_document(terms: Terms) -> TermsDocument:
    return {"plan": terms.plan.id, "seats": terms.seats, "add_ons": dict(terms.add_ons)}


def line_document(line: Line, currency: str) -> LineDocument:
    return {
        "item": line.item,
        "description": line.label,
        "quantity": line.quantity,
        "amount": plain(line.amount_minor, currency),
        "start": line.span.start.isoformat(),
        "end": line.span.end.isoformat(),
    }


def step_document(step: Step) -> StepDocument:
    """Without tax, which the invoice adds as the customer's profile says."""
    currency = step.after.currency
    return {
        "event": step.event,
        "at": step.at.isoformat(),
        "lines": [line_document(line, currency) for line in step.lines],
        "total": plain(step.total_minor, currency),
        "currency": currency,
    }


def _planned(subscription: Subscription) -> PlannedDocument | None:
    planned = subscription.planned
    if planned is None:
        return None
    if planned.terms is None:
        return {"what": planned.turn}
    return {"what": planned.turn, **terms_document(planned.terms)}
