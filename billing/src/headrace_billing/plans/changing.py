"""What somebody does to a subscription, each as one step. Time has done its part before (`passing.due`)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from headrace_billing.invoicing.usage import Span
from headrace_billing.plans.lines import exchange, give_back
from headrace_billing.plans.passing import ended, halted, opened
from headrace_billing.plans.period import period
from headrace_billing.plans.plan import Terms, add_on_of
from headrace_billing.plans.subscription import (
    CHARGED,
    ONCE,
    Event,
    InvoicesOverdue,
    Line,
    NothingScheduled,
    PlanChangeInvalid,
    Planned,
    State,
    Step,
    Subscription,
    SubscriptionState,
    Turn,
    When,
)

CHANGEABLE = frozenset({State.SCHEDULED, State.TRIALING, State.ACTIVE})


def change(
    before: Subscription,
    terms: Terms,
    *,
    now: datetime,
    when: When | None,
    buy: Mapping[str, int],
) -> Step:
    """To other terms; null for `when` means now for what costs as much or more, and else the end of the period.

    `buy` are add-ons that are charged once, at once. Raises `SubscriptionState`, `PlanInvalid`, `PlanChangeInvalid`.
    """
    if before.state not in CHANGEABLE:
        raise SubscriptionState(before.id, before.state, "changed")
    if terms.plan.currency != before.currency:
        raise PlanChangeInvalid(
            f"{before.id} is billed in {before.currency}, and {terms.plan.id} is sold in {terms.plan.currency}."
        )
    terms.check()
    if terms == before.terms and not buy and before.planned is None:
        raise PlanChangeInvalid(f"{before.id} has these terms already.")
    if when is None:
        dearer = terms.yearly_minor >= before.terms.yearly_minor
        when = When.NOW if dearer or before.state is State.SCHEDULED else When.PERIOD_END
    if when is When.NOW:
        step = _change_now(before, terms, now)
    elif before.period is None:
        raise PlanChangeInvalid(f"{before.id} has not started: change it now.")
    else:
        step = _plan(before, Planned(Turn.CHANGE, terms), now)
    return replace(step, lines=(*step.lines, *_bought(terms, buy, before, now)))


def pause(before: Subscription, *, now: datetime, when: When, give_rest_back: bool) -> Step:
    """Raises `SubscriptionState`, and `PlanChangeInvalid` as `cancel` does."""
    if before.state is not State.ACTIVE:
        raise SubscriptionState(before.id, before.state, "paused")
    if when is When.PERIOD_END:
        _must_leave_nothing(give_rest_back)
        return _plan(before, Planned(Turn.PAUSE), now)
    return Step(halted(before), Event.PAUSED, now, _rest(before, now) if give_rest_back else ())


def resume(before: Subscription, *, now: datetime, overdue: bool) -> Step:
    """A period begins now, and is charged. Raises `SubscriptionState`, `InvoicesOverdue`."""
    if before.state is not State.PAUSED:
        raise SubscriptionState(before.id, before.state, "resumed")
    if overdue:
        raise InvoicesOverdue(before.org)
    return opened(before, anchor=now, number=0, terms=before.terms, event=Event.RESUMED)


def cancel(before: Subscription, *, now: datetime, when: When, give_rest_back: bool) -> Step:
    """Raises `SubscriptionState`, and `PlanChangeInvalid` for a rest of what goes on to its end."""
    if before.state is State.CANCELLED:
        raise SubscriptionState(before.id, before.state, "cancelled")
    if when is When.PERIOD_END:
        if before.period is None:
            raise PlanChangeInvalid(f"{before.id} has no period that could end: cancel it now.")
        _must_leave_nothing(give_rest_back)
        return _plan(before, Planned(Turn.CANCEL), now)
    return Step(ended(before, now), Event.CANCELLED, now, _rest(before, now) if give_rest_back else ())


def undo(before: Subscription, *, now: datetime) -> Step:
    """Takes back what is planned for the end of the period. Raises `NothingScheduled`."""
    if before.planned is None:
        raise NothingScheduled(before.id)
    return Step(replace(before, planned=None, version=before.version + 1), Event.UNDONE, now)


def follow_service(before: Subscription, *, now: datetime, overdue: bool) -> Step | None:
    """As the organisation loses and regains its service by what it owes."""
    if overdue and before.state is State.ACTIVE:
        state, event = State.PAST_DUE, Event.PAST_DUE
    elif not overdue and before.state is State.PAST_DUE:
        state, event = State.ACTIVE, Event.RECOVERED
    else:
        return None
    return Step(replace(before, state=state, version=before.version + 1), event, now)


def _change_now(before: Subscription, terms: Terms, now: datetime) -> Step:
    # Who cancels or pauses at the end still does; another change gives way to this one.
    planned = None if before.planned is None or before.planned.turn is Turn.CHANGE else before.planned
    after = replace(before, terms=terms, planned=planned, version=before.version + 1)
    if before.state is not State.ACTIVE:
        return Step(after, Event.CHANGED, now)
    assert before.period is not None, f"{before.id} is active without a period"
    if terms.plan.interval is before.terms.plan.interval:
        lines = exchange(before.terms.items(), terms.items(), before.period, since=now)
        return Step(after, Event.CHANGED, now, lines)
    step = opened(before, anchor=now, number=0, terms=terms, event=Event.CHANGED)
    return replace(step, after=replace(step.after, planned=planned), lines=(*_rest(before, now), *step.lines))


def _must_leave_nothing(give_rest_back: bool) -> None:
    if give_rest_back:
        raise PlanChangeInvalid("What goes on to the end of its period leaves nothing to give back.")


def _plan(before: Subscription, planned: Planned, now: datetime) -> Step:
    return Step(replace(before, planned=planned, version=before.version + 1), Event.PLANNED, now)


def _rest(before: Subscription, now: datetime) -> tuple[Line, ...]:
    if before.state not in CHARGED or before.period is None:
        return ()
    return give_back(before.terms.items(), before.period, since=now)


def _bought(terms: Terms, buy: Mapping[str, int], before: Subscription, now: datetime) -> tuple[Line, ...]:
    lines = []
    for code, quantity in sorted(buy.items()):
        add_on = add_on_of(terms.plan, code)
        if add_on.recurring:
            raise PlanChangeInvalid(f"{code!r} is charged each period: name it in `add_ons`.")
        end = before.period.end if before.period is not None else None
        span = Span(now, end) if end is not None and end > now else period(now, terms.plan.interval, 0)
        label = f"{terms.plan.name}, {add_on.name}"
        lines.append(
            Line(ONCE + code, label, quantity, quantity * add_on.price_minor, span, add_on.price_minor)
        )
    return tuple(line for line in lines if line.amount_minor)
