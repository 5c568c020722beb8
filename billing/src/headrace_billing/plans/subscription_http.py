"""Subscriptions over the API: starting, changing and ending them, each with what it will cost beforehand."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.accounts.change_http import IfMatch, version_of
from headrace_billing.accounts.changing import VersionConflict
from headrace_billing.accounts.http import PushPending
from headrace_billing.answers import Answering
from headrace_billing.bodies import Id, Listed, PageOf, page_of
from headrace_billing.callers import Admin, AdminOnly, IdempotencyKey, MemberOf, OrgMember
from headrace_billing.errors import BillingError
from headrace_billing.idempotency import recall, remember
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.plans import store
from headrace_billing.plans.applying import apply, begin, catch_up
from headrace_billing.plans.documents import (
    PreviewDocument,
    SubscriptionDocument,
    SubscriptionSummary,
    step_document,
    subscription_document,
)
from headrace_billing.plans.passing import due
from headrace_billing.plans.period import whole_second
from headrace_billing.plans.starting import drawn_up
from headrace_billing.plans.subscription import Step, Subscription
from headrace_billing.plans.wishes import (
    Cancellation,
    Change,
    NewSubscription,
    Pause,
    Preview,
    Resumption,
    Undoing,
    Wish,
)
from headrace_billing.valkey import ValkeyError

log = structlog.get_logger()
router = APIRouter(tags=["subscriptions"], dependencies=[AdminOnly], route_class=Answering)


class OnlySellerGivesBack(BillingError):
    """A customer may pay more at once, and less from the next period on."""

    code = "only_seller_gives_back"

    def __init__(self) -> None:
        super().__init__(
            "What is paid for is given back by the seller alone. Ask for it at the end of the period: "
            '"when": "period_end".'
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and which version they saw."""

    parts: Parts
    caller: Admin | OrgMember
    idempotency_key: str
    version: int


def _asked(
    parts: PartsOf,
    caller: MemberOf,
    idempotency_key: IdempotencyKey,
    if_match: IfMatch = None,
) -> Asked:
    """Raises `VersionMissing`."""
    return Asked(parts, caller, idempotency_key, version_of(if_match))


AskedOf = Annotated[Asked, Depends(_asked)]


@router.post("/v1/subscriptions", status_code=201)
async def start_subscription(
    body: NewSubscription, parts: PartsOf, idempotency_key: IdempotencyKey
) -> SubscriptionDocument:
    """Charged ahead, on the next invoice. To be paid before it starts, see sign-ups."""
    now, once = parts.now(), {"scope": "subscriptions", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer: SubscriptionDocument | None = await recall(
            session, **once, request=body.model_dump(mode="json")
        )
        if answer is not None:
            return answer
        subscription = await drawn_up(session, body, now=now, starts_at=body.starts_at)
        places = await begin(session, subscription, now=now)
        answer = await _shown(session, subscription.id)
        await remember(session, **once, answer=answer)
    await _push(parts, subscription.id, places)
    return answer


@router.post("/v1/subscriptions/preview")
async def preview_start(body: NewSubscription, parts: PartsOf) -> PreviewDocument:
    """What starting it would charge: now, and at the next renewal."""
    now = parts.now()
    async with parts.database.snapshot() as session:
        subscription = await drawn_up(session, body, now=now, starts_at=body.starts_at)
    steps = []
    while (step := due(subscription, now)) is not None:
        steps.append(step)
        subscription = step.after
    return _preview(subscription, steps)


@router.get("/v1/subscriptions")
async def list_subscriptions(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[SubscriptionSummary]:
    async with parts.database.begin() as session:
        found = await store.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([subscription_document(one) for one in found], page)


@router.get("/v1/subscriptions/{subscription_id}")
async def show_subscription(subscription_id: Id, parts: PartsOf) -> SubscriptionDocument:
    """With its latest steps and what each of them charged."""
    async with parts.database.snapshot() as session:
        return await _shown(session, subscription_id)


@router.post("/v1/subscriptions/{subscription_id}/change")
async def change_subscription(subscription_id: Id, body: Change, asked: AskedOf) -> SubscriptionDocument:
    """Another plan or version of it, other seats, other add-ons. For the version in If-Match."""
    return await _carry_out(asked, subscription_id, body)


@router.post("/v1/subscriptions/{subscription_id}/pause")
async def pause_subscription(subscription_id: Id, body: Pause, asked: AskedOf) -> SubscriptionDocument:
    """Neither charged nor in force until it is resumed."""
    return await _carry_out(asked, subscription_id, body)


@router.post("/v1/subscriptions/{subscription_id}/resume")
async def resume_subscription(subscription_id: Id, body: Resumption, asked: AskedOf) -> SubscriptionDocument:
    """A period begins now and is charged."""
    return await _carry_out(asked, subscription_id, body)


@router.post("/v1/subscriptions/{subscription_id}/cancel")
async def cancel_subscription(
    subscription_id: Id, body: Cancellation, asked: AskedOf
) -> SubscriptionDocument:
    """At the end of what is paid for, or now."""
    return await _carry_out(asked, subscription_id, body)


@router.post("/v1/subscriptions/{subscription_id}/undo")
async def undo_subscription_change(
    subscription_id: Id, body: Undoing, asked: AskedOf
) -> SubscriptionDocument:
    """Takes back what is planned for the end of the period."""
    return await _carry_out(asked, subscription_id, body)


@router.post("/v1/subscriptions/{subscription_id}/preview")
async def preview_subscription(
    subscription_id: Id, body: Preview, caller: MemberOf, parts: PartsOf
) -> PreviewDocument:
    """The exact lines of what the same body would do at this moment, and those of the renewal after it."""
    now = parts.now()
    async with parts.database.snapshot() as session:
        before = await store.find(session, subscription_id)
        while (step := due(before, now)) is not None:
            before = step.after
        step = await _step(session, body.named[0], before, caller, now=now)
    return _preview(step.after, [step])


async def _carry_out(asked: Asked, subscription: str, wish: Wish) -> SubscriptionDocument:
    parts, now = asked.parts, asked.parts.now()
    once = {"scope": f"{type(wish).__name__} {subscription}", "key": asked.idempotency_key}
    request = {"version": asked.version, **wish.model_dump(mode="json")}
    async with parts.database.begin() as session:
        answer: SubscriptionDocument | None = await recall(session, **once, request=request)
        if answer is not None:
            return answer
        before = await store.find(session, subscription, lock=True)
        # What time has done is another version: whoever asks has not seen it.
        before, places = await catch_up(session, before, now=now)
        if before.version != asked.version:
            raise VersionConflict("subscription", before.version)
        step = await _step(session, wish, before, asked.caller, now=now)
        places += await apply(session, before, step, now=now)
        answer = await _shown(session, subscription)
        await remember(session, **once, answer=answer)
    await _push(parts, subscription, places)
    return answer


async def _step(
    session: AsyncSession, wish: Wish, before: Subscription, caller: Admin | OrgMember, *, now: datetime
) -> Step:
    """Raises `OnlySellerGivesBack` and whatever `changing` raises."""
    step = await wish.step(session, before, whole_second(now))
    if isinstance(caller, OrgMember) and step.total_minor < 0:
        raise OnlySellerGivesBack
    return step


async def _shown(session: AsyncSession, subscription: str) -> SubscriptionDocument:
    found = await store.find(session, subscription)
    return {**subscription_document(found), "steps": await store.steps(session, subscription)}


def _preview(after: Subscription, steps: list[Step]) -> PreviewDocument:
    next_at = after.starts_at if after.period is None else after.period.end
    renewal = due(after, next_at)
    return {
        "subscription": subscription_document(after),
        "now": [step_document(step) for step in steps],
        "next": None if renewal is None else step_document(renewal),
    }


async def _push(parts: Parts, subscription: str, places: list[str]) -> None:
    """Answers success only once Valkey has the change: from then on it holds for every request."""
    try:
        await outbox.push(parts.database, parts.valkey, places)
    except ValkeyError as error:
        log.warning("plan_not_pushed", subscription=subscription, error=type(error).__name__)
        raise PushPending(subscription) from error
