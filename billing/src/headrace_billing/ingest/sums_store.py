"""What usage adds up to in Postgres: rollups, and the quantities that charges follow from.

Only ingest and the closing of months write here, one transaction at a time (`batch.ONE_AT_A_TIME`), so what is read
is what is written against.
"""

from collections.abc import Iterable, Mapping
from typing import Any, LiteralString

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import copy_rows
from headrace_billing.ingest.effects import RollupKey, RollupSums
from headrace_billing.rating.book import PriceLine
from headrace_billing.rating.cumulative import Group, Payer, Rated
from headrace_billing.rating.price import TokenClass
from headrace_contracts.usage import Disposition, ServiceTier


async def add_rollups(session: AsyncSession, sums: Mapping[RollupKey, RollupSums]) -> None:
    """By session and hour, by hour, and by day: each report reads the coarsest that tells what it asks."""
    await session.execute(CREATE_CHANGES)
    await copy_rows(session, COPY_CHANGES, [_rollup_row(key, sums[key]) for key in sorted(sums)])
    for statement in UPSERT_ROLLUPS:
        await session.execute(statement)
    await session.execute(FORGET_CHANGES)


def _rollup_row(key: RollupKey, sums: RollupSums) -> tuple[Any, ...]:
    """The columns of `CHANGES`, in its order."""
    return (
        key.hour,
        key.session,
        key.task,
        key.end_user,
        key.org,
        key.project,
        key.key,
        key.wallet,
        key.currency,
        key.model,
        key.price_book,
        key.disposition.value,
        key.service_tier.value,
        sums.requests,
        sums.input_uncached,
        sums.cache_read,
        sums.cache_write,
        sums.output_visible,
        sums.reasoning,
        sums.list_attos,
        sums.charge_nanos,
    )


async def rated(session: AsyncSession, payers: Iterable[Payer]) -> dict[Group, Rated]:
    """What the projects of these payers are rated at in their periods."""
    wanted = set(payers)
    rows = await session.execute(
        SELECT_RATED,
        {
            "periods": sorted({payer.period for payer in wanted}),
            "projects": sorted({payer.project for payer in wanted}),
        },
    )
    found = {}
    for row in rows:
        payer = Payer(
            row.period, row.org, row.project, row.wallet, row.currency, Disposition(row.disposition)
        )
        if payer in wanted:
            line = PriceLine(TokenClass(row.token_class), row.price_window, ServiceTier(row.service_tier))
            group = Group(payer, row.price_book, row.model, line)
            found[group] = Rated(int(row.quantity), int(row.charge_nanos), row.closed)
    return found


async def keep_rated(session: AsyncSession, ratings: Mapping[Group, Rated]) -> None:
    rows = [
        {
            "period": group.payer.period,
            "org": group.payer.org,
            "project": group.payer.project,
            "wallet": group.payer.wallet,
            "currency": group.payer.currency,
            "price_book": group.price_book,
            "model": group.model,
            "disposition": group.payer.disposition,
            "token_class": group.line.token_class,
            "price_window": group.line.window,
            "service_tier": group.line.service_tier,
            "quantity": ratings[group].quantity,
            "charge_nanos": str(ratings[group].charge_nanos),
            "closed": ratings[group].closed,
        }
        for group in sorted(ratings)
    ]
    await session.execute(UPSERT_RATED, {"rows": msgspec.json.encode(rows).decode()})


TIME = "hour timestamptz"
FINER = "session text, task text, end_user text"
PLACE = """org text, project text, key text, wallet text, currency text, model text, price_book text,
      disposition text, service_tier text"""

SUMS = """requests bigint, tokens_input_uncached bigint, tokens_cache_read bigint, tokens_cache_write bigint,
      tokens_output_visible bigint, tokens_reasoning bigint, list_attos numeric, charge_nanos numeric"""

# A session's own table, made once a connection: what one transaction changes is read three times from it.
CREATE_CHANGES = text(f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS rollup_changes ({TIME}, {FINER}, {PLACE}, {SUMS}) ON COMMIT DELETE ROWS
""")

COPY_CHANGES: LiteralString = "COPY rollup_changes FROM STDIN"

# A transaction may add more than once.
FORGET_CHANGES = text("DELETE FROM rollup_changes")


def _names(columns: str) -> list[str]:
    return [column.split()[0] for column in columns.split(",")]


def _upsert(table: str, *, begins: str, finer: str = "") -> TextClause:
    """`begins` is when a row's time began; `finer` what the table tells apart beside time and place."""
    places = [*(_names(finer) if finer else []), *_names(PLACE)]
    unique = ", ".join(place for place in places if place not in {"org", "currency"})
    sums = _names(SUMS)
    return text(f"""
        INSERT INTO {table} AS u (hour, {", ".join(places + sums)})
        SELECT {begins}, {", ".join(places)}, {", ".join(f"sum({name})" for name in sums)}
        FROM rollup_changes
        GROUP BY {begins}, {", ".join(places)}
        ON CONFLICT (hour, {unique})
        DO UPDATE SET {", ".join(f"{name} = u.{name} + excluded.{name}" for name in sums)}
    """)  # noqa: S608 - only names of tables and columns, from above


UPSERT_ROLLUPS = (
    _upsert("usage_rollups_by_session", begins="hour", finer=FINER),
    _upsert("usage_rollups", begins="hour"),
    _upsert("usage_rollups_by_day", begins="date_trunc('day', hour)"),
)

SELECT_RATED = text("""
    SELECT period, org, project, wallet, currency, price_book, model, disposition, token_class, price_window,
           service_tier, quantity, charge_nanos, closed
    FROM rated_usage WHERE period = ANY(:periods) AND project = ANY(:projects)
""")

UPSERT_RATED = text("""
    INSERT INTO rated_usage (
      period, org, project, wallet, currency, price_book, model, disposition, token_class, price_window, service_tier,
      quantity, charge_nanos, closed)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
      period date, org text, project text, wallet text, currency text, price_book text, model text,
      disposition text, token_class text, price_window text, service_tier text, quantity bigint,
      charge_nanos numeric, closed boolean)
    ON CONFLICT (period, project, wallet, price_book, model, disposition, token_class, price_window, service_tier)
    DO UPDATE SET quantity = excluded.quantity, charge_nanos = excluded.charge_nanos, closed = excluded.closed
""")
