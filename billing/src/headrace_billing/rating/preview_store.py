"""Reading what a preview rates: rollups of whole hours, with the prices that would have held."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.rating import store
from headrace_billing.rating.bodies import Draft
from headrace_billing.rating.book import PriceBook, check_book
from headrace_billing.rating.cumulative import Payer
from headrace_billing.rating.preview import Used
from headrace_billing.rating.price import PriceInvalid, TokenClass
from headrace_billing.rating.publishing import resolve
from headrace_billing.rating.window import HOURS_OF_WEEK
from headrace_contracts.usage import Disposition, ServiceTier


async def books(
    session: AsyncSession, draft: Draft, *, at: datetime
) -> tuple[PriceBook, dict[str, PriceBook]]:
    """What everybody would pay, and what those would who have prices of their own. Raises `PriceInvalid`."""
    if draft.org is not None:
        base = await store.in_force(session, currency=draft.currency, org=None, at=at)
        if base is None:
            raise PriceInvalid(f"There are no prices in {draft.currency} to make an organization's own from.")
        return base, {draft.org: replace(resolve(base, draft.overrides), id=draft.org)}
    check_book(draft.overrides.models, draft.windows)
    general = PriceBook("general", draft.currency, draft.overrides.models, draft.windows)
    overrides = await store.overrides_in_force(session, currency=draft.currency, at=at)
    return general, {org: replace(resolve(general, own), id=org) for org, own in overrides.items()}


async def used(
    session: AsyncSession, *, currency: str, org: str | None, start: datetime, end: datetime
) -> Iterable[Used]:
    """Sold usage of the hours from `start` until `end`."""
    rows = await session.execute(
        SELECT_USED,
        {"currency": currency, "org": org, "start": start, "end": end, "charged": sorted(CHARGED)},
    )
    return (
        Used(
            Payer(row.month, row.org, row.project, row.wallet, currency, Disposition(row.disposition)),
            row.model,
            ServiceTier(row.service_tier),
            HOURS_OF_WEEK[int(row.hour_of_week)],
            {kind: int(getattr(row, kind.value)) for kind in TokenClass},
            int(row.charge_nanos),
        )
        for row in rows
    )


def whole_months(start: datetime, end: datetime) -> set[date]:
    """The calendar months that lie within the time as a whole."""
    found = set()
    month = start.date().replace(day=1)
    if month != start.date() or start.time() != datetime.min.time():
        month = _next(month)
    while _next(month) <= end.date():
        found.add(month)
        month = _next(month)
    return found


def _next(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


SELECT_USED = text("""
    SELECT org, project, wallet, disposition, model, service_tier, CAST(date_trunc('month', hour) AS date) AS month,
           (extract(isodow FROM hour) - 1) * 24 + extract(hour FROM hour) AS hour_of_week,
           sum(tokens_input_uncached) AS input_uncached, sum(tokens_cache_read) AS cache_read,
           sum(tokens_cache_write) AS cache_write, sum(tokens_output_visible + tokens_reasoning) AS output,
           sum(charge_nanos) AS charge_nanos
    FROM usage_rollups
    WHERE currency = :currency AND (CAST(:org AS text) IS NULL OR org = :org) AND disposition = ANY(:charged)
      AND hour >= :start AND hour < :end
    GROUP BY org, project, wallet, disposition, model, service_tier, month, hour_of_week
""")
