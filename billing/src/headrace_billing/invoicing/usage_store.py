"""Reading usage for invoices, for many customers at once: only of the months that no invoice has shown in full."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounting.month import begins, ends
from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.invoicing.usage import Counted, Portion, Span
from headrace_billing.rating.book import PriceBook, PriceLine
from headrace_billing.rating.cumulative import Group, Payer, Rated
from headrace_billing.rating.price import TokenClass
from headrace_billing.rating.schedule import charge_nanos
from headrace_billing.rating.store import price_books
from headrace_contracts.usage import Disposition, ServiceTier

LINES_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Whose:
    organization: str
    currency: str


@dataclass(frozen=True, slots=True)
class Closing:
    """A period that is being closed, and the months that may belong to it in part or in full."""

    whose: Whose
    period: Span
    is_first: bool
    """No period was closed before, so nothing can belong to an earlier one."""
    months: Sequence[date]

    def holds(self, month: date) -> bool:
        """Whether nothing of the month can belong to another period than this one."""
        return (self.is_first or self.period.start <= begins(month)) and self.period.end >= ends(month)


async def open_months(session: AsyncSession, every: Sequence[Whose]) -> dict[Whose, list[date]]:
    """Months of which something is rated that no invoice has taken, or the other way round."""
    found: dict[Whose, list[date]] = {whose: [] for whose in every}
    for row in await session.execute(SELECT_OPEN_MONTHS, _parameters(every)):
        found[Whose(row.org, row.currency)].append(row.month)
    return found


@dataclass(slots=True)
class Usage:
    counted: list[Counted]
    closed: set[Group]
    """Groups whose month's account is closed."""
    invoiced: list[Portion]


async def usage(
    session: AsyncSession, every: Sequence[Closing]
) -> tuple[dict[Whose, Usage], dict[str, PriceBook]]:
    """Every sold token of those months received before the period's end, by the period that it belongs to.

    And what invoices have taken, and the price books that all of it is rated by. What ingest has rated of a month that
    is all in the period is the sum of its events, which the reconciliation has just shown; of other months, and where
    a charge is not what its quantity costs, events are counted one by one.
    """
    found = {closing.whose: Usage([], set(), []) for closing in every}
    rated = await _rated(session, every)
    taken = (await session.execute(SELECT_INVOICED, _of_months(every))).all()
    rated_by = {group.price_book for rows in rated.values() for group, _ in rows}
    books = await price_books(session, rated_by | {row.price_book for row in taken})
    for row in taken:
        portion = Portion(_group(row), Span(row.span_start, row.span_end), int(row.tokens), int(row.nanos))
        found[Whose(row.org, row.currency)].invoiced.append(portion)
    for closing in every:
        whose, use = closing.whose, found[closing.whose]
        for month in closing.months:
            rows = rated.get((whose.organization, whose.currency, month), [])
            use.closed |= {group for group, one in rows if one.closed}
            if closing.holds(month) and all(_follows(group, one, books) for group, one in rows):
                use.counted += [Counted(group, closing.period, one.quantity) for group, one in rows]
            else:
                use.counted += await _of_events(session, closing, month, books)
    return found, books


async def _rated(
    session: AsyncSession, every: Sequence[Closing]
) -> dict[tuple[str, str, date], list[tuple[Group, Rated]]]:
    """By organisation, currency and month. There are millions of rows in a run, of few payers and fewer price lines."""
    found: dict[tuple[str, str, date], list[tuple[Group, Rated]]] = {}
    payers: dict[tuple[object, ...], tuple[Payer, list[tuple[Group, Rated]]]] = {}
    for (
        *place, price_book, model, token_class, price_window, service_tier, quantity, nanos, closed
    ) in await session.execute(SELECT_RATED, _of_months(every)):  # fmt: skip
        known = payers.get(whose := tuple(place))
        if known is None:
            month, org, project, wallet, currency, disposition = place
            payer = Payer(month, org, project, wallet, currency, Disposition(disposition))
            known = payers[whose] = payer, found.setdefault((org, currency, month), [])
        group = Group(known[0], price_book, model, _line(token_class, price_window, service_tier))
        known[1].append((group, Rated(quantity, int(nanos), closed)))
    return found


def _follows(group: Group, rated: Rated, books: Mapping[str, PriceBook]) -> bool:
    schedule = books[group.price_book].schedule(group.model, group.line)
    return charge_nanos(rated.quantity, schedule, closed=rated.closed) == rated.charge_nanos


async def _of_events(
    session: AsyncSession, closing: Closing, month: date, books: dict[str, PriceBook]
) -> list[Counted]:
    rows = (
        await session.execute(
            SELECT_COUNTED,
            {
                "org": closing.whose.organization,
                "currency": closing.whose.currency,
                "charged": sorted(CHARGED),
                "month": month,
                "start": closing.period.start,
                "end": closing.period.end,
            },
        )
    ).all()
    books |= await price_books(session, {row.price_book for row in rows} - books.keys())
    found = []
    for row in rows:
        prices, tier = books[row.price_book].models[row.model], ServiceTier(row.service_tier)
        for token_class in TokenClass:
            tokens = getattr(row, token_class.value)
            if tokens:
                group = Group(
                    _payer(row), row.price_book, row.model, prices.line(token_class, row.price_window, tier)
                )
                found.append(Counted(group, Span(row.span_start, row.span_end), int(tokens)))
    return found


def _group(row: Row[Any]) -> Group:
    line = _line(row.token_class, row.price_window, row.service_tier)
    return Group(_payer(row), row.price_book, row.model, line)


def _payer(row: Row[Any]) -> Payer:
    return Payer(row.month, row.org, row.project, row.wallet, row.currency, Disposition(row.disposition))


def line_of(row: Row[Any]) -> PriceLine:
    return _line(row.token_class, row.price_window, row.service_tier)


@lru_cache(LINES_KEPT)
def _line(token_class: str, price_window: str, service_tier: str) -> PriceLine:
    """There are some dozen, and each is asked for millions of times."""
    return PriceLine(TokenClass(token_class), price_window, ServiceTier(service_tier))


@dataclass(frozen=True, slots=True)
class Bundled:
    """Usage inside tasks: shown, and not charged."""

    requests: int
    tokens: int


async def bundled(session: AsyncSession, every: Sequence[Closing]) -> dict[Whose, Bundled]:
    """Of those who have any."""
    rows = await session.execute(
        SELECT_BUNDLED,
        {
            **_parameters(closing.whose for closing in every),
            "starts": [closing.period.start for closing in every],
            "ends": [closing.period.end for closing in every],
        },
    )
    return {Whose(row.org, row.currency): Bundled(int(row.requests), int(row.tokens)) for row in rows}


def _parameters(every: Iterable[Whose]) -> dict[str, Any]:
    given = list(every)
    return {
        "orgs": [whose.organization for whose in given],
        "currencies": [whose.currency for whose in given],
        "charged": sorted(CHARGED),
    }


def _of_months(every: Sequence[Closing]) -> dict[str, Any]:
    pairs = [(closing.whose, month) for closing in every for month in closing.months]
    return {**_parameters(whose for whose, _ in pairs), "months": [month for _, month in pairs]}


WHOSE = """
    unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[])) AS s (org, currency)
"""
OF_MONTHS = """
    unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[]), CAST(:months AS date[])) AS s (org, currency, month)
"""

# Nothing has to be added up of a month that no invoice has taken anything of: most often that is the one in question.
SELECT_OPEN_MONTHS = text(f"""
    WITH rated AS (
      SELECT DISTINCT r.org, r.currency, r.period AS month
      FROM {WHOSE} JOIN rated_usage r ON r.org = s.org AND r.currency = s.currency
      WHERE r.disposition = ANY(:charged) AND (r.quantity <> 0 OR r.charge_nanos <> 0)
    ), taken AS (
      SELECT DISTINCT p.org, p.currency, p.month
      FROM {WHOSE} JOIN invoice_portions p ON p.org = s.org AND p.currency = s.currency
    )
    SELECT * FROM (SELECT * FROM rated EXCEPT SELECT * FROM taken) AS untouched
    UNION
    SELECT org, currency, month FROM (
      SELECT org, currency, month FROM (
        SELECT r.org, r.currency, r.period AS month, r.project, r.wallet, r.price_book, r.model, r.disposition,
               r.token_class, r.price_window, r.service_tier, r.quantity AS tokens, r.charge_nanos AS nanos
        FROM taken t JOIN rated_usage r ON r.org = t.org AND r.currency = t.currency AND r.period = t.month
        WHERE r.disposition = ANY(:charged)
        UNION ALL
        SELECT p.org, p.currency, p.month, p.project, p.wallet, p.price_book, p.model, p.disposition, p.token_class,
               p.price_window, p.service_tier, -p.tokens, -p.nanos
        FROM {WHOSE} JOIN invoice_portions p ON p.org = s.org AND p.currency = s.currency
      ) AS both_sides
      GROUP BY org, currency, month, project, wallet, price_book, model, disposition, token_class, price_window,
               service_tier
      HAVING sum(tokens) <> 0 OR sum(nanos) <> 0
    ) AS off ORDER BY org, currency, month
""")  # noqa: S608 - a fragment of this file

SELECT_RATED = text(f"""
    SELECT r.period, r.org, r.project, r.wallet, r.currency, r.disposition, r.price_book, r.model, r.token_class,
           r.price_window, r.service_tier, r.quantity, CAST(r.charge_nanos AS text), r.closed
    FROM {OF_MONTHS} JOIN rated_usage r ON r.org = s.org AND r.currency = s.currency AND r.period = s.month
    WHERE r.disposition = ANY(:charged)
""")  # noqa: S608 - a fragment of this file

# What no closed period holds belongs to the one that is being closed.
SELECT_COUNTED = text("""
    SELECT CAST(:month AS date) AS month, e.org, e.currency, e.project, e.wallet, e.price_book,
           e.model_served AS model, e.disposition, e.price_window, e.service_tier,
           coalesce(i.period_start, :start) AS span_start, coalesce(i.period_end, :end) AS span_end,
           sum(e.tokens_input_uncached) AS input_uncached,
           sum(e.tokens_cache_read) AS cache_read,
           sum(e.tokens_cache_write) AS cache_write,
           sum(e.tokens_output_visible + e.tokens_reasoning) AS output
    FROM usage_effective e
    LEFT JOIN invoices i
      ON i.org = e.org AND i.currency = e.currency
         AND e.received_at >= i.period_start AND e.received_at < i.period_end
    WHERE e.org = :org AND e.currency = :currency AND e.disposition = ANY(:charged)
      AND e.received_at >= CAST(:month AS date) AND e.received_at < CAST(:month AS date) + interval '1 month'
      AND e.received_at < :end
    GROUP BY e.org, e.currency, e.project, e.wallet, e.price_book, e.model_served, e.disposition, e.price_window,
             e.service_tier, span_start, span_end
""")

SELECT_INVOICED = text(f"""
    SELECT p.org, p.currency, p.month, p.project, p.wallet, p.price_book, p.model, p.disposition, p.token_class,
           p.price_window, p.service_tier, p.span_start, p.span_end, sum(p.tokens) AS tokens, sum(p.nanos) AS nanos
    FROM {OF_MONTHS}
    JOIN invoice_portions p ON p.org = s.org AND p.currency = s.currency AND p.month = s.month
    GROUP BY p.org, p.currency, p.month, p.project, p.wallet, p.price_book, p.model, p.disposition, p.token_class,
             p.price_window, p.service_tier, p.span_start, p.span_end
""")  # noqa: S608 - a fragment of this file

SELECT_BUNDLED = text("""
    SELECT s.org, s.currency, count(*) AS requests,
           coalesce(sum(tokens_input_uncached + tokens_cache_read + tokens_cache_write
                        + tokens_output_visible + tokens_reasoning), 0) AS tokens
    FROM unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[]), CAST(:starts AS timestamptz[]),
                CAST(:ends AS timestamptz[])) AS s (org, currency, starts, ends)
    JOIN usage_effective e ON e.org = s.org AND e.currency = s.currency
      AND e.received_at >= s.starts AND e.received_at < s.ends
    WHERE e.disposition = 'outcome_bundled'
    GROUP BY s.org, s.currency
""")
