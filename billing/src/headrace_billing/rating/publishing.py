"""Publishing prices: a version is stored whole, comes into force at its time, and never changes.

An organisation's own book is made from the book of its currency and from what it pays otherwise. It is made anew
whenever either comes into force, so every version is whole, and old usage is rated by what it was admitted under.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.rating import store
from headrace_billing.rating.book import PriceBook, Prices, check_book, check_changes
from headrace_billing.rating.definition import definition_of, written_windows
from headrace_billing.rating.price import PriceInvalid, TokenClass, price_text
from headrace_billing.rating.store import SELECT_OVERRIDING, Overrides, Published
from headrace_billing.rating.window import HourWindow


async def lock(session: AsyncSession) -> None:
    """One publication at a time, until the transaction ends: versions have no gap, and follow each other."""
    await session.execute(LOCK)


async def publish(
    session: AsyncSession,
    *,
    currency: str,
    models: Mapping[str, Prices],
    windows: Mapping[str, HourWindow],
    at: datetime,
    effective_at: datetime,
    large_changes: bool,
) -> Published:
    """A new version for everybody, and of each organisation's own book. Under `lock`. Raises `PriceInvalid`."""
    check_book(models, windows)
    before = await store.in_force(session, currency=currency, org=None, at=effective_at)
    if before is not None and not large_changes:
        check_changes(before.models, models)
    published = await _insert(
        session,
        PriceBook("", currency, models, windows),
        org=None,
        base=None,
        at=at,
        effective_at=effective_at,
    )
    rows = await session.execute(SELECT_OVERRIDING, {"currency": currency})
    for org in rows.scalars().all():
        await _make_anew(session, currency=currency, org=org, at=at, since=effective_at)
    return published


async def publish_overrides(
    session: AsyncSession,
    *,
    currency: str,
    org: str,
    overrides: Overrides,
    at: datetime,
    effective_at: datetime,
    large_changes: bool,
) -> Published:
    """The organisation's new book as of that time. Under `lock`. Raises `PriceInvalid`."""
    base = await store.in_force(session, currency=currency, org=None, at=effective_at)
    if base is None:
        raise PriceInvalid(
            f"There are no prices in {currency} at that time to make an organization's own from."
        )
    before = await store.in_force(session, currency=currency, org=org, at=effective_at) or base
    if not large_changes:
        check_changes(before.models, resolve(base, overrides).models)
    await session.execute(
        INSERT_OVERRIDES,
        {
            "currency": currency,
            "org": org,
            "published_at": at,
            "effective_at": effective_at,
            "models": json.dumps(
                {model: definition_of(prices) for model, prices in overrides.models.items()}
            ),
            "inherited_times": None
            if overrides.inherited_times is None
            else price_text(overrides.inherited_times),
        },
    )
    return await _make_anew(session, currency=currency, org=org, at=at, since=effective_at)


def resolve(base: PriceBook, overrides: Overrides) -> PriceBook:
    """What the organisation pays. Raises `PriceInvalid`."""
    inherited: Mapping[str, Prices] = base.models
    if overrides.inherited_times is not None:
        times = overrides.inherited_times
        inherited = {model: prices.times(times) for model, prices in base.models.items()}
    book = replace(base, models={**inherited, **overrides.models})
    check_book(book.models, book.windows)
    return book


async def _make_anew(
    session: AsyncSession, *, currency: str, org: str, at: datetime, since: datetime
) -> Published:
    """The organisation's book as of `since`, and again for every later time at which it or its base changes."""
    instants = (
        (await session.execute(SELECT_LATER, {"currency": currency, "org": org, "since": since}))
        .scalars()
        .all()
    )
    made = []
    for instant in (since, *instants):
        base = await store.in_force(session, currency=currency, org=None, at=instant)
        overrides = await store.overrides(session, currency=currency, org=org, at=instant)
        if base is None or overrides is None:
            continue
        try:
            book = resolve(base, overrides)
        except PriceInvalid as error:
            raise PriceInvalid(f"{org}'s own prices can't follow {base.id}: {error}") from error
        made.append(await _insert(session, book, org=org, base=base.id, at=at, effective_at=instant))
    assert made, f"{org} has no prices in {currency}"
    return made[0]


async def _insert(
    session: AsyncSession,
    book: PriceBook,
    *,
    org: str | None,
    base: str | None,
    at: datetime,
    effective_at: datetime,
) -> Published:
    version: int = (await session.execute(NEXT_VERSION, {"currency": book.currency, "org": org})).scalar_one()
    names = [book.currency.lower(), *([] if org is None else [org]), str(version)]
    book = replace(book, id="_".join(["pb", *names]), org=org)
    await session.execute(
        INSERT_BOOK,
        {
            "id": book.id,
            "currency": book.currency,
            "version": version,
            "published_at": at,
            "effective_at": effective_at,
            "org": org,
            "base": base,
            "windows": json.dumps(written_windows(book.windows)),
        },
    )
    rows = [_row(model, prices) for model, prices in book.models.items()]
    await session.execute(INSERT_PRICES, {"id": book.id, "rows": json.dumps(rows)})
    return Published(book, version, at, effective_at, base)


def _row(model: str, prices: Prices) -> dict[str, Any]:
    plain = not prices.windows and prices.batch is None
    plain = plain and all(schedule.is_plain for schedule in prices.by_class.values())
    return {
        "model": model,
        "definition": None if plain else definition_of(prices),
        **{kind: price_text(prices.ceiling_rate(kind)) for kind in TokenClass},
    }


LOCK = text("SELECT pg_advisory_xact_lock(hashtext('headrace.price_books'))")

NEXT_VERSION = text("""
    SELECT coalesce(max(version), 0) + 1 FROM price_books
    WHERE currency = :currency AND org IS NOT DISTINCT FROM CAST(:org AS text)
""")

INSERT_BOOK = text("""
    INSERT INTO price_books (id, currency, version, published_at, effective_at, org, base, windows)
    VALUES (:id, :currency, :version, :published_at, :effective_at, :org, :base, CAST(:windows AS jsonb))
""")

INSERT_PRICES = text("""
    INSERT INTO price_book_prices (price_book, model, input_uncached, cache_read, cache_write, output, definition)
    SELECT :id, model, input_uncached, cache_read, cache_write, output, definition
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
      AS r (model text, input_uncached numeric, cache_read numeric, cache_write numeric, output numeric,
            definition jsonb)
""")

INSERT_OVERRIDES = text("""
    INSERT INTO price_overrides (currency, org, published_at, effective_at, models, inherited_times)
    VALUES (:currency, :org, :published_at, :effective_at, CAST(:models AS jsonb), CAST(:inherited_times AS numeric))
""")

SELECT_LATER = text("""
    SELECT effective_at FROM price_books WHERE currency = :currency AND org IS NULL AND effective_at > :since
    UNION
    SELECT effective_at FROM price_overrides WHERE currency = :currency AND org = :org AND effective_at > :since
    ORDER BY 1
""")
