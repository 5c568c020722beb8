"""Reading usage for an invoice: only of the months whose rated quantities no invoice has shown in full."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.invoicing.usage import Counted, Portion, Span
from headrace_billing.rating.cumulative import Group, Payer
from headrace_billing.rating.price import TokenClass
from headrace_contracts.usage import Disposition


@dataclass(frozen=True, slots=True)
class Books:
    organization: str
    currency: str

    def group(self, row: Row[tuple[object, ...]], token_class: TokenClass) -> Group:
        payer = Payer(
            period=row.month,
            org=self.organization,
            project=row.project,
            wallet=row.wallet,
            currency=self.currency,
            disposition=Disposition(row.disposition),
        )
        return Group(payer, row.price_book, row.model, token_class)


async def open_months(session: AsyncSession, books: Books) -> list[date]:
    """Months of which something is rated that no invoice has taken, or the other way round."""
    rows = await session.execute(
        SELECT_OPEN_MONTHS,
        {"org": books.organization, "currency": books.currency, "charged": sorted(CHARGED)},
    )
    return list(rows.scalars())


async def counted(
    session: AsyncSession, books: Books, *, months: Iterable[date], period: Span
) -> list[Counted]:
    """Every sold token of those months received before the period's end, by the period that it belongs to."""
    rows = await session.execute(
        SELECT_COUNTED,
        {
            "org": books.organization,
            "currency": books.currency,
            "charged": sorted(CHARGED),
            "months": list(months),
            "start": period.start,
            "end": period.end,
        },
    )
    return [
        Counted(books.group(row, token_class), Span(row.span_start, row.span_end), int(tokens))
        for row in rows
        for token_class in TokenClass
        if (tokens := getattr(row, token_class.value))
    ]


async def invoiced(session: AsyncSession, books: Books, *, months: Iterable[date]) -> list[Portion]:
    """What invoices have taken out of `unbilled` for those months, by group and span."""
    rows = await session.execute(
        SELECT_INVOICED, {"org": books.organization, "currency": books.currency, "months": list(months)}
    )
    return [
        Portion(
            books.group(row, TokenClass(row.token_class)),
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


async def bundled(session: AsyncSession, books: Books, *, period: Span) -> Bundled:
    row = (
        await session.execute(
            SELECT_BUNDLED,
            {
                "org": books.organization,
                "currency": books.currency,
                "start": period.start,
                "end": period.end,
            },
        )
    ).one()
    return Bundled(int(row.requests), int(row.tokens))


SELECT_OPEN_MONTHS = text("""
    SELECT DISTINCT month FROM (
      SELECT month FROM (
        SELECT period AS month, project, wallet, price_book, model, disposition, token_class, quantity AS tokens
        FROM rated_usage WHERE org = :org AND currency = :currency AND disposition = ANY(:charged)
        UNION ALL
        SELECT month, project, wallet, price_book, model, disposition, token_class, -tokens
        FROM invoice_portions WHERE org = :org AND currency = :currency
      ) AS both_sides
      GROUP BY month, project, wallet, price_book, model, disposition, token_class
      HAVING sum(tokens) <> 0
    ) AS off ORDER BY month
""")

# What no closed period holds belongs to the one that is being closed.
SELECT_COUNTED = text("""
    SELECT m.month, e.project, e.wallet, e.price_book, e.model_served AS model, e.disposition,
           coalesce(i.period_start, :start) AS span_start, coalesce(i.period_end, :end) AS span_end,
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
    GROUP BY m.month, e.project, e.wallet, e.price_book, e.model_served, e.disposition, span_start, span_end
""")

SELECT_INVOICED = text("""
    SELECT month, project, wallet, price_book, model, disposition, token_class, span_start, span_end,
           sum(tokens) AS tokens, sum(nanos) AS nanos
    FROM invoice_portions WHERE org = :org AND currency = :currency AND month = ANY(:months)
    GROUP BY month, project, wallet, price_book, model, disposition, token_class, span_start, span_end
""")

SELECT_BUNDLED = text("""
    SELECT count(*) AS requests,
           coalesce(sum(tokens_input_uncached + tokens_cache_read + tokens_cache_write
                        + tokens_output_visible + tokens_reasoning), 0) AS tokens
    FROM usage_effective
    WHERE org = :org AND currency = :currency AND disposition = 'outcome_bundled'
      AND received_at >= :start AND received_at < :end
""")
