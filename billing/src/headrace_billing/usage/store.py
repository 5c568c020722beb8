"""Sums of usage and charges from the coarsest rollup that tells what is asked, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.usage.query import CursorInvalid, Dimension, Part, Query, cursor_after, read_cursor
from headrace_contracts.usage import TokenCounts

COLUMNS = {dimension: dimension.value for dimension in Dimension} | {Dimension.ORGANIZATION: "org"}


@dataclass(frozen=True, slots=True)
class Sums:
    starts_at: datetime | None
    """When its hour, day or month began; null where time is not told apart."""
    of: dict[Dimension, str]
    """Empty strings where a request named none."""
    currency: str | None
    requests: int
    tokens: TokenCounts
    list_attos: int
    charge_nanos: int


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Sums]
    cursor: str | None
    """Null on the last page."""


async def sums(
    session: AsyncSession, query: Query, *, by_currency: bool, after: str | None, limit: int
) -> Page:
    """In the order of time and then of what is told apart. Raises `CursorInvalid`."""
    places = [COLUMNS[dimension] for dimension in query.group_by] + (["currency"] if by_currency else [])
    start = query.start
    parameters: dict[str, Any] = {
        "currency": query.currency,
        "limit": limit + 1,
        **{f"only_{COLUMNS[dimension]}": value for dimension, value in query.filters.items()},
    }
    if after is not None:
        timed = query.granularity is not None
        values = read_cursor(query.fingerprint, after, values=len(places) + timed)
        if timed:
            start = max(start, instant_of(values[0], before=query.end))
        parameters |= {f"after_{n}": value for n, value in enumerate(values)}
    rows: Sequence[Row[Any]] = ()
    for end in query.horizons(start, limit=limit):
        parts = query.parts(start, end)
        for n, part in enumerate(parts):
            parameters |= {f"start_{n}": part.start, f"end_{n}": part.end}
        statement = _statement(query, parts, places, paged=after is not None)
        rows = (await session.execute(statement, parameters)).all()
        if len(rows) > limit:
            break
    found = [
        Sums(
            starts_at=None if query.granularity is None else row.starts_at,
            of={dimension: getattr(row, COLUMNS[dimension]) for dimension in query.group_by},
            currency=row.currency if by_currency else None,
            requests=int(row.requests),
            tokens=TokenCounts(
                **{name: int(getattr(row, f"tokens_{name}")) for name in TokenCounts.__struct_fields__}
            ),
            list_attos=int(row.list_attos),
            charge_nanos=int(row.charge_nanos),
        )
        for row in rows[:limit]
    ]
    if len(rows) <= limit:
        return Page(found, None)
    last = [*([] if found[-1].starts_at is None else [found[-1].starts_at.isoformat()])]
    last += [getattr(rows[limit - 1], place) for place in places]
    return Page(found, cursor_after(query.fingerprint, last))


def instant_of(written: str, *, before: datetime) -> datetime:
    """A cursor's. Raises `CursorInvalid`."""
    try:
        at = datetime.fromisoformat(written)
    except ValueError as error:
        raise CursorInvalid from error
    if at.tzinfo is None or at >= before:
        raise CursorInvalid
    return at


def _statement(query: Query, parts: Sequence[Part], places: Sequence[str], *, paged: bool) -> TextClause:
    """Names of tables and columns are constants of this project; every value is a parameter."""
    times = [] if query.granularity is None else [f"date_trunc('{query.granularity}', hour)"]
    keys = [*times, *places]
    casts = ["timestamptz"] * len(times) + ["text"] * len(places)
    after = ", ".join(f"CAST(:after_{n} AS {cast})" for n, cast in enumerate(casts))
    sums = [f"tokens_{name}" for name in TokenCounts.__struct_fields__]
    sums += ["requests", "list_attos", "charge_nanos"]
    where = [
        *([] if query.currency is None else ["currency = :currency"]),
        *(f"{COLUMNS[dimension]} = :only_{COLUMNS[dimension]}" for dimension in query.filters),
    ]
    if query.by_session and Dimension.ORGANIZATION in query.filters:
        # By which the table is read; by organisation it has no index.
        where.append("project IN (SELECT id FROM projects WHERE org = :only_org)")
    read = " UNION ALL ".join(
        f"SELECT {', '.join(['hour', *places, *sums])} FROM {part.rollup} WHERE "  # noqa: S608 - see above
        + " AND ".join([f"hour >= :start_{n} AND hour < :end_{n}", *where])
        for n, part in enumerate(parts)
    )
    selected = [*(f"{one} AS starts_at" for one in times), *places]
    selected += [f"coalesce(sum({name}), 0) AS {name}" for name in sums]
    grouped = f"GROUP BY {', '.join(keys)}" if keys else ""
    having = f"HAVING ({', '.join(keys)}) > ({after})" if paged and keys else ""
    ordered = f"ORDER BY {', '.join(keys)}" if keys else ""
    return text(f"""
        SELECT {", ".join(selected)} FROM ({read}) AS read
        {grouped} {having} {ordered} LIMIT :limit
    """)  # noqa: S608 - see above
