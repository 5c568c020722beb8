"""Reading usage for an invoice: only of the months whose rated quantities no invoice has shown in full."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.invoicing.usage import Counted, Portion, Span
from headrace_billing.rating.book import PriceBook, PriceLine
from headrace_billing.rating.cumulative import Group, Payer
from headrace_billing.rating.price import TokenClass
from headrace_billing.rating.store import price_books
from headrace_contracts.usage import Disposition, ServiceTier


@dataclass(frozen=True, slots=True)
class Whose:
    organization: str
    currency: str

    def group(self, row: Row[tuple[object, ...]], line: PriceLine) -> Group:
        payer = Payer(
            period=row.month,
            org=self.organization,
            project=row.project,
            wallet=row.wallet,
            currency=self.currency,
            disposition=Disposition(row.disposition),
        )
        return Group(payer, row.price_book, row.model, line)


async def open_months(session: AsyncSession, whose: Whose) -> list[date]:
    """Months of which something is rated that no invoice has taken, or the other way round."""
    rows = await session.execute(
        SELECT_OPEN_MONTHS,
        {"org": whose.organization, "currency": whose.currency, "charged": sorted(CHARGED)},
    )
    return list(rows.scalars())


async def counted(
    session: AsyncSession, whose: Whose, *, months: Iterable[date], period: Span
) -> tuple[list[Counted], dict[str, PriceBook]]:
    """Every sold token of those months received before the period's end, by the period that it belongs to.

    And the price books that they are rated by.
    """
    rows = (
        await session.execute(
            SELECT_COUNTED,
            {
                "org": whose.organization,
                "currency": whose.currency,
                "charged": sorted(CHARGED),
                "months": list(months),
                "start": period.start,
                "end": period.end,
            },
        )
    ).all()
    priced = await price_books(session, {row.price_book for row in rows})
    found = []
    for row in rows:
        prices, tier = priced[row.price_book].models[row.model], ServiceTier(row.service_tier)
        for token_class in TokenClass:
            tokens = getattr(row, token_class.value)
            if tokens:
                line = prices.line(token_class, row.price_window, tier)
                group = whose.group(row, line)
                found.append(Counted(group, Span(row.span_start, row.span_end), int(tokens)))
    return found, priced


async def closed(session: AsyncSession, whose: Whose, *, months: Iterable[date]) -> set[Group]:
    """Groups whose month's account is closed."""
    rows = await session.execute(
        SELECT_CLOSED, {"org": whose.organization, "currency": whose.currency, "months": list(months)}
    )
    return {whose.group(row, line_of(row)) for row in rows}


def line_of(row: Row[tuple[object, ...]]) -> PriceLine:
    return PriceLine(TokenClass(row.token_class), row.price_window, ServiceTier(row.service_tier))


async def invoiced(session: AsyncSession, whose: Whose, *, months: Iterable[date]) -> list[Portion]:
    """What invoices have taken out of `unbilled` for those months, by group and span."""
    rows = await session.execute(
        SELECT_INVOICED, {"org": whose.organization, "currency": whose.currency, "months": list(months)}
    )
    return [
        Portion(
            whose.group(row, line_of(row)),
            Span(row.span_start, row.span_end),
            int(row.tokens),
            int(row.nanos),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Bundled:
    """Usage inside tasks: shown, and not charged."""

    requests: int
    tokens: int


async def bundled(session: AsyncSession, whose: Whose, *, period: Span) -> Bundled:
    row = (
        await session.execute(
            SELECT_BUNDLED,
            {
                "org": whose.organization,
                "currency": whose.currency,
                "start": period.start,
                "end": period.end,
            },
        )
    ).one()
    return Bundled(int(row.requests), int(row.tokens))


SELECT_OPEN_MONTHS = text("""
    SELECT DISTINCT month FROM (
      SELECT month FROM (
        SELECT period AS month, project, wallet, price_book, model, disposition, token_class, price_window,
               service_tier, quantity AS tokens, charge_nanos AS nanos
        FROM rated_usage WHERE org = :org AND currency = :currency AND disposition = ANY(:charged)
        UNION ALL
        SELECT month, project, wallet, price_book, model, disposition, token_class, price_window, service_tier,
               -tokens, -nanos
        FROM invoice_portions WHERE org = :org AND currency = :currency
      ) AS both_sides
      GROUP BY month, project, wallet, price_book, model, disposition, token_class, price_window, service_tier
      HAVING sum(tokens) <> 0 OR sum(nanos) <> 0
    ) AS off ORDER BY month
""")

SELECT_CLOSED = text("""
    SELECT period AS month, project, wallet, price_book, model, disposition, token_class, price_window, service_tier
    FROM rated_usage WHERE org = :org AND currency = :currency AND period = ANY(:months) AND closed
""")

# What no closed period holds belongs to the one that is being closed.
SELECT_COUNTED = text("""
    SELECT m.month, e.project, e.wallet, e.price_book, e.model_served AS model, e.disposition, e.price_window,
           e.service_tier, coalesce(i.period_start, :start) AS span_start, coalesce(i.period_end, :end) AS span_end,
           sum(e.tokens_input_uncached) AS input_uncached,
           sum(e.tokens_cache_read) AS cache_read,
           sum(e.tokens_cache_write) AS cache_write,
           sum(e.tokens_output_visible + e.tokens_reasoning) AS output
    FROM unnest(CAST(:months AS date[])) AS m (month)
    JOIN usage_effective e
      ON e.received_at >= m.month AND e.received_at < m.month + interval '1 month'
    LEFT JOIN invoices i
      ON i.org = e.org AND i.currency = e.currency
         AND e.received_at >= i.period_start AND e.received_at < i.period_end
    WHERE e.org = :org AND e.currency = :currency AND e.disposition = ANY(:charged)
      AND e.received_at < :end
    GROUP BY m.month, e.project, e.wallet, e.price_book, e.model_served, e.disposition, e.price_window,
             e.service_tier, span_start, span_end
""")

SELECT_INVOICED = text("""
    SELECT month, project, wallet, price_book, model, disposition, token_class, price_window, service_tier,
           span_start, span_end, sum(tokens) AS tokens, sum(nanos) AS nanos
    FROM invoice_portions WHERE org = :org AND currency = :currency AND month = ANY(:months)
    GROUP BY month, project, wallet, price_book, model, disposition, token_class, price_window, service_tier,
             span_start, span_end
""")

SELECT_BUNDLED = text("""
    SELECT count(*) AS requests,
           coalesce(sum(tokens_input_uncached + tokens_cache_read + tokens_cache_write
                        + tokens_output_visible + tokens_reasoning), 0) AS tokens
    FROM usage_effective
    WHERE org = :org AND currency = :currency AND disposition = 'outcome_bundled'
      AND received_at >= :start AND received_at < :end
""")
