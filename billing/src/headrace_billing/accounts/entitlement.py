"""What a plan allows a project or a whole organisation, beside what the seller has set for it.

A project's own plan stands in for its organisation's. While a plan's windows pay for requests nothing else does: what
they refuse is refused, and neither a wallet nor an invoice takes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_contracts.access import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    subscription: str
    org: str
    project: str | None
    """Null means every project of the organisation that has none of its own."""
    limits: list[Limit]
    models: list[str] | None
    pays_for_requests: bool


@dataclass(frozen=True, slots=True)
class Entitlements:
    """Of one organisation."""

    own: Mapping[str, Entitlement]
    """By project."""
    shared: Entitlement | None

    def of(self, project: str) -> Entitlement | None:
        return self.own.get(project, self.shared)


async def entitlements(session: AsyncSession, org: str) -> Entitlements:
    rows = await session.execute(SELECT, {"org": org})
    found = [
        Entitlement(**{**row, "limits": msgspec.convert(row["limits"], list[Limit])})
        for row in rows.mappings()
    ]
    own = {one.project: one for one in found if one.project is not None}
    return Entitlements(own, next((one for one in found if one.project is None), None))


SELECT = text("""
    SELECT subscription, org, project, limits, models, pays_for_requests FROM plan_entitlements WHERE org = :org
""")
