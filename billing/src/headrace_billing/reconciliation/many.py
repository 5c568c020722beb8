"""Which of many customers need no look at all: each request billed what its engine yielded, each sum like the others.

Whoever is not among them may be green all the same, and gets a report of its own, which alone decides: this errs on
the careful side only, and reads for a thousand customers what a report reads for one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.reconciliation import many_store, store
from headrace_billing.reconciliation.books import Money, broken, money_checks
from headrace_billing.reconciliation.report import Scope

# What comes meanwhile could as well have come a moment after the invoice; the close of the month finds it.
REMEMBERED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Suspects:
    """Whose deployment has an engine request without an event, and whom a refused event names."""

    start: datetime
    end: datetime
    deployments: frozenset[str]
    organizations: frozenset[str]


@dataclass(slots=True)
class Lookout:
    """Finds suspects and remembers them for some seconds: batches of one run ask for the same, and it reads much."""

    found: Suspects | None = None
    found_at_seconds: float = 0.0

    async def suspects(self, session: AsyncSession, *, start: datetime, end: datetime) -> Suspects:
        start = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        known = self.found
        fresh = time.monotonic() - self.found_at_seconds < REMEMBERED_SECONDS
        if known is None or not fresh or start < known.start or end > known.end:
            known = self.found = await suspects(session, start=start, end=end)
            self.found_at_seconds = time.monotonic()
        return known


async def suspects(session: AsyncSession, *, start: datetime, end: datetime) -> Suspects:
    quarantined = await store.quarantined(session, Scope(None, start, end))
    return Suspects(
        start=start,
        end=end,
        deployments=await many_store.orphaned_deployments(session, start=start, end=end),
        organizations=frozenset(one.organization for one in quarantined if one.organization is not None),
    )


async def plainly_green(session: AsyncSession, scopes: Sequence[Scope], seen: Suspects) -> set[str]:
    """Organisations, each of which is in `scopes` once. `session` must see one moment."""
    named = {scope.organization for scope in scopes if scope.organization is not None}
    assert len(named) == len(scopes), "each organisation once, and each by name"
    odd = set(seen.organizations)
    odd |= await many_store.odd(session, scopes, deployments=seen.deployments)
    for organization, found in (await many_store.money(session, scopes)).items():
        if any(broken(money_checks(Money(currency=currency, **sums))) for currency, sums in found.items()):
            odd.add(organization)
    return named - odd
