"""Pausing an organisation's service: gateways take no new request of its projects, and what runs goes on to its end."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store


async def set_paused(session: AsyncSession, org: str, *, paused: bool) -> list[str]:
    """The Valkey keys of what changed, to push once the transaction stands; none where it was so already."""
    changed = (await session.execute(UPDATE, {"org": org, "paused": paused})).first()
    return [] if changed is None else await store.write_projects(session, org)


UPDATE = text("UPDATE organizations SET paused = :paused WHERE id = :org AND paused <> :paused RETURNING id")
