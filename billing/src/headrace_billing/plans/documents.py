"""Plans, subscriptions and steps as the API shows them."""

from typing import Any

from headrace_billing.invoicing.amounts import plain
from headrace_billing.plans.plan import Terms
from headrace_billing.plans.plan_store import Published
from headrace_billing.plans.store import line_document
from headrace_billing.plans.subscription import SERVED, Step, Subscription


def plan_document(published: Published) -> dict[str, Any]:
    return {
        "id": published.plan.id,
        **published.definition,
        "published_at": published.published_at.isoformat(),
    }


def subscription_document(subscription: Subscription) -> dict[str, Any]:
    planned, period = subscription.planned, subscription.period
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
        "planned": None
        if planned is None
        else {
            "what": planned.turn,
            **({} if planned.terms is None else terms_document(planned.terms)),
        },
        "version": subscription.version,
        "created_at": subscription.created_at.isoformat(),
        "ended_at": None if subscription.ended_at is None else subscription.ended_at.isoformat(),
    }


def terms_document(terms: Terms) -> dict[str, Any]:
    return {"plan": terms.plan.id, "seats": terms.seats, "add_ons": dict(terms.add_ons)}


def step_document(step: Step) -> dict[str, Any]:
    """Without tax, which the invoice adds as the customer's profile says."""
    currency = step.after.currency
    return {
        "event": step.event,
        "at": step.at.isoformat(),
        "lines": [line_document(line, currency) for line in step.lines],
        "total": plain(step.total_minor, currency),
        "currency": currency,
    }
