"""What a caller asks of a subscription, decoded; what becomes of it, `changing` decides."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.bodies import Body, Id
from headrace_billing.plans import changing, plan_store, store
from headrace_billing.plans.definition import ADD_ONS_MAX, SEATS_MAX, Code
from headrace_billing.plans.plan import Terms
from headrace_billing.plans.subscription import Step, Subscription, When

QUANTITY_MAX = 10_000

Seats = Annotated[int, Field(ge=1, le=SEATS_MAX)]
Quantities = Annotated[
    dict[Code, Annotated[int, Field(ge=1, le=QUANTITY_MAX)]], Field(max_length=ADD_ONS_MAX)
]


class Subscribing(Body):
    organization: Id
    project: Id | None = None
    """The one project that it serves; null means all that have no subscription of their own."""
    wallet: Id | None = None
    """What the plan's credit fills; null means the project's."""
    plan: Id
    seats: Seats = 1
    add_ons: Annotated[Quantities, Field(default_factory=dict)]


class NewSubscription(Subscribing):
    starts_at: AwareDatetime | None = None
    """Null means now."""


class Change(Body):
    """What is left out stays as it is."""

    plan: Id | None = None
    seats: Seats | None = None
    add_ons: Quantities | None = None
    """All of the recurring ones that are wanted."""
    buy: Annotated[Quantities, Field(default_factory=dict)]
    """Add-ons that are charged once."""
    when: When | None = None
    """Null means now for what costs as much or more, and else the end of the period."""

    async def step(self, session: AsyncSession, before: Subscription, now: datetime) -> Step:
        """Raises what `changing.change` raises, and `NotFound`."""
        terms = before.terms
        plan = terms.plan
        if self.plan is not None:
            plan = (await plan_store.published(session, self.plan)).plan
        add_ons: Mapping[str, int] = terms.add_ons if self.add_ons is None else self.add_ons
        wanted = Terms(plan, self.seats or terms.seats, add_ons)
        return changing.change(before, wanted, now=now, when=self.when, buy=self.buy)


class Pause(Body):
    when: When = When.PERIOD_END
    give_rest_back: bool = False
    """What is left of the period that is paid for; the seller's to give."""

    async def step(self, _: AsyncSession, before: Subscription, now: datetime) -> Step:
        return changing.pause(before, now=now, when=self.when, give_rest_back=self.give_rest_back)


class Cancellation(Body):
    when: When = When.PERIOD_END
    give_rest_back: bool = False
    """What is left of the period that is paid for; the seller's to give."""

    async def step(self, _: AsyncSession, before: Subscription, now: datetime) -> Step:
        return changing.cancel(before, now=now, when=self.when, give_rest_back=self.give_rest_back)


class Resumption(Body):
    async def step(self, session: AsyncSession, before: Subscription, now: datetime) -> Step:
        overdue = await store.is_overdue(session, before.org)
        return changing.resume(before, now=now, overdue=overdue)


class Undoing(Body):
    async def step(self, _: AsyncSession, before: Subscription, now: datetime) -> Step:
        return changing.undo(before, now=now)


Wish = Change | Pause | Cancellation | Resumption | Undoing


class Preview(Body):
    """One of them."""

    change: Change | None = None
    pause: Pause | None = None
    resume: Resumption | None = None
    cancel: Cancellation | None = None
    undo: Undoing | None = None

    @model_validator(mode="after")
    def _one(self) -> "Preview":
        if len(self.named) != 1:
            raise ValueError("name one of change, pause, resume, cancel and undo")
        return self

    @property
    def named(self) -> list[Wish]:
        every = (self.change, self.pause, self.resume, self.cancel, self.undo)
        return [wish for wish in every if wish is not None]
