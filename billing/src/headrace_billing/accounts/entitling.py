"""Putting a plan into force and taking it out: gateways go by it from the next request on, once it is pushed."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store
from headrace_billing.accounts.entitlement import Entitlement


async def entitle(session: AsyncSession, entitlement: Entitlement) -> list[str]:
    """The Valkey keys of what changed, to push once the transaction stands."""
    await session.execute(
        UPSERT,
        {
            "subscription": entitlement.subscription,
            "org": entitlement.org,
            "project": entitlement.project,
            "limits": store.limits_json(entitlement.limits),
            "models": entitlement.models,
            "pays_for_requests": entitlement.pays_for_requests,
        },
    )
    return await _tell(session, entitlement.org, entitlement.project)


async def end_entitlement(session: AsyncSession, subscription: str) -> list[str]:
    """Likewise; none where there is none."""
    row = (await session.execute(DELETE, {"subscription": subscription})).first()
    return [] if row is None else await _tell(session, row.org, row.project)


async def _tell(session: AsyncSession, org: str, project: str | None) -> list[str]:
    if project is None:
        return await store.write_projects(session, org)
    return [await store.write_project(session, await store.project(session, project))]


UPSERT = text("""
    INSERT INTO plan_entitlements (subscription, org, project, limits, models, pays_for_requests)
    VALUES (:subscription, :org, :project, CAST(:limits AS jsonb), CAST(:models AS text[]), :pays_for_requests)
    ON CONFLICT (subscription) DO UPDATE
    SET limits = excluded.limits, models = excluded.models, pays_for_requests = excluded.pays_for_requests
""")

DELETE = text("DELETE FROM plan_entitlements WHERE subscription = :subscription RETURNING org, project")
