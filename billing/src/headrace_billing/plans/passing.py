"""What time does to a subscription: it starts, its trial ends, its period is followed by the next one.

One step at a time and each by the instant that it was due at, so that a job that comes late by days makes up for each
period that it missed, once. Nothing here charges twice: a step leads to a state in which it is not due any more.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from headrace_billing.invoicing.usage import Span
from headrace_billing.plans.lines import charge
from headrace_billing.plans.period import period
from headrace_billing.plans.plan import Terms
from headrace_billing.plans.subscription import Event, State, Step, Subscription, Turn


def due(subscription: Subscription, now: datetime) -> Step | None:
    """The next thing that time has done to it by `now`; null where there is none."""
    if subscription.state is State.SCHEDULED:
        return _start(subscription) if subscription.starts_at <= now else None
    if subscription.period is None or now < subscription.period.end:
        return None
    return _turn(subscription, subscription.period.end)


def opened(subscription: Subscription, *, anchor: datetime, number: int, terms: Terms, event: Event) -> Step:
    """Its period with that number begins, and is charged."""
    span = period(anchor, terms.plan.interval, number)
    after = replace(
        subscription,
        state=State.ACTIVE,
        anchor=anchor,
        number=number,
        period=span,
        terms=terms,
        planned=None,
        version=subscription.version + 1,
    )
    return Step(after, event, span.start, charge(terms.items(), span), span.end)


def ended(subscription: Subscription, at: datetime) -> Subscription:
    return replace(
        subscription,
        state=State.CANCELLED,
        period=None,
        planned=None,
        ended_at=at,
        version=subscription.version + 1,
    )


def halted(subscription: Subscription) -> Subscription:
    return replace(
        subscription, state=State.PAUSED, period=None, planned=None, version=subscription.version + 1
    )


def _start(subscription: Subscription) -> Step:
    at, terms = subscription.starts_at, subscription.terms
    if terms.plan.trial_days:
        trial = Span(at, at + timedelta(days=terms.plan.trial_days))
        after = replace(subscription, state=State.TRIALING, period=trial, version=subscription.version + 1)
        return Step(after, Event.STARTED, at)
    return opened(subscription, anchor=at, number=0, terms=terms, event=Event.STARTED)


def _turn(subscription: Subscription, at: datetime) -> Step:
    planned = subscription.planned
    if planned is not None and planned.turn is Turn.CANCEL:
        return Step(ended(subscription, at), Event.CANCELLED, at)
    if subscription.state is State.PAST_DUE or (planned is not None and planned.turn is Turn.PAUSE):
        # No service, no charge: whoever has paid what is overdue resumes it.
        return Step(halted(subscription), Event.PAUSED, at)
    terms, anchor, number = subscription.terms, subscription.anchor, subscription.number + 1
    if planned is not None and planned.terms is not None:
        terms = planned.terms
    moved = terms.plan.interval is not subscription.terms.plan.interval
    if subscription.state is State.TRIALING or moved:
        anchor, number = at, 0
    return opened(subscription, anchor=anchor, number=number, terms=terms, event=Event.RENEWED)
