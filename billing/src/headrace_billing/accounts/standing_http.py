"""What is left of the limits of organisations, projects and keys, for whoever may read these."""

from collections.abc import Sequence

import structlog
from fastapi import APIRouter
from typing_extensions import TypedDict

from headrace_billing.accounts import store
from headrace_billing.accounts.entitlement import Entitlement, entitlements
from headrace_billing.accounts.limit_bodies import LimitDocument, limit_document
from headrace_billing.accounts.standing import LimitsUnavailable, standings
from headrace_billing.answers import Answering
from headrace_billing.bodies import Id
from headrace_billing.callers import AdminOnly
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.valkey import ValkeyError
from headrace_contracts.access import Limit

log = structlog.get_logger()
router = APIRouter(tags=["accounts"], dependencies=[AdminOnly], route_class=Answering)


class StandingDocument(LimitDocument):
    subscription: str | None
    """Whose plan brought it; null for one that was set."""
    used: int
    remaining: int
    resets_at: str | None


class LimitsDocument(TypedDict):
    at: str
    items: list[StandingDocument]


@router.get("/v1/organizations/{organization_id}/limits")
async def show_organization_limits(organization_id: Id, parts: PartsOf) -> LimitsDocument:
    """What is left of them, over all of its projects, and of the plan that these share."""
    async with parts.database.begin() as session:
        organization = await store.organization(session, organization_id)
        plan = (await entitlements(session, organization_id)).shared
    return await _read(parts, organization.limits, plan, scope="org", subject=organization_id)


@router.get("/v1/projects/{project_id}/limits")
async def show_project_limits(project_id: Id, parts: PartsOf) -> LimitsDocument:
    """What is left of its own, and of a plan of its own. Its organisation's count beside them."""
    async with parts.database.begin() as session:
        project = await store.project(session, project_id)
        plan = (await entitlements(session, project.org)).own.get(project_id)
    return await _read(parts, project.limits, plan, scope="project", subject=project_id)


@router.get("/v1/keys/{key_id}/limits")
async def show_key_limits(key_id: Id, parts: PartsOf) -> LimitsDocument:
    """What is left of its own. Its project's and its organisation's count beside them."""
    async with parts.database.begin() as session:
        key = await store.key(session, key_id)
    return await _read(parts, key.limits, None, scope="key", subject=key_id)


async def _read(
    parts: Parts, own: Sequence[Limit], plan: Entitlement | None, *, scope: str, subject: str
) -> LimitsDocument:
    planned = [] if plan is None else plan.limits
    try:
        read = await standings(parts.valkey, [*own, *planned], scope=scope, subject=subject)
    except ValkeyError as error:
        log.warning("limits_not_read", subject=subject, error=type(error).__name__)
        raise LimitsUnavailable from error
    subscriptions = [None] * len(own) + [None if plan is None else plan.subscription] * len(planned)
    return {
        "at": read.at.isoformat(),
        "items": [
            {
                **limit_document(one.limit),
                "subscription": subscription,
                "used": one.used,
                "remaining": one.remaining,
                "resets_at": None if one.resets_at is None else one.resets_at.isoformat(),
            }
            for one, subscription in zip(read.standings, subscriptions, strict=True)
        ],
    }
