"""What budgets and windows count of the past: their counters, from what Postgres has of usage.

Written into a cold Valkey before its epoch, so that a budget that was spent is still spent, and for limits that are new to
gateways before these hear of them (beginning.py). A counter is only ever raised, to what billing has posted: nothing of
that is in it twice, whatever it counted already and whoever counts in it meanwhile, for both are parts of one whole. What
runs is put back by its gateway.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from redis.asyncio import Redis
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_contracts import channels, counters
from headrace_contracts.access import BUDGETS, Limit, LimitKind, Window, WindowShape

PAGE = 200
KEPT = timedelta(days=1)  # as limits/scripts/prelude.lua keeps a span's counter after its end


async def push_everything(database: Database, valkey: Redis, *, at: datetime) -> int:
    """How many counters were written. `at` says which day, month and window is present."""
    count = 0
    for scope, statement in SOURCES:
        after = ""
        while True:
            async with database.begin() as session:
                rows = (await session.execute(statement, {"after": after, "limit": PAGE})).all()
                for row in rows:
                    limits = msgspec.convert(row.limits, list[Limit])
                    count += await push(session, valkey, limits, scope=scope, subject=row.id, at=at)
            if len(rows) < PAGE:
                break
            after = rows[-1].id
    async with database.begin() as session:
        for row in await session.execute(SPENT_BY_TASK):
            counter = channels.counter(LimitKind.SPEND_TOTAL.value, "task", row.task)
            await _raise(valkey, counter, int(row.micros))
            count += 1
    return count


async def push(
    session: AsyncSession, valkey: Redis, limits: Iterable[Limit], *, scope: str, subject: str, at: datetime
) -> int:
    """Raises the counters of those limits that count the past; how many those are."""
    count = 0
    for name, limit in {counters.name_of(limit): limit for limit in limits}.items():
        counter = channels.counter(name, scope, subject)
        if limit.kind in BUDGETS:
            await _push_budget(session, valkey, counter, limit, scope=scope, subject=subject, at=at)
        elif limit.window is not None:
            used = (USED_BY_PLAN if limit.pays else USED)[scope]
            await _push_window(session, valkey, counter, limit, subject=subject, at=at, used=used)
        else:
            continue
        count += 1
    return count


async def _push_budget(
    session: AsyncSession,
    valkey: Redis,
    counter: str,
    limit: Limit,
    *,
    scope: str,
    subject: str,
    at: datetime,
) -> None:
    began = counters.budget_began(limit.kind, at)
    spent = (
        await session.execute(
            SPENT[scope], {"id": subject, "began": began or BEGINNING, "model": limit.model}
        )
    ).scalar_one()
    if began is None:
        await _raise(valkey, counter, int(spent))
        return
    ends = counters.budget_ends(limit.kind, at)
    assert ends is not None
    place = f"{counter}:{int(began.timestamp())}"
    await _raise(valkey, place, int(spent), until_ms=_ms(ends + KEPT))


async def _push_window(
    session: AsyncSession,
    valkey: Redis,
    counter: str,
    limit: Limit,
    *,
    subject: str,
    at: datetime,
    used: TextClause,
) -> None:
    window = limit.window
    assert window is not None, counter
    sliding = window.shape is WindowShape.SLIDING
    size_ms = counters.slice_ms(window) if sliding else window.seconds * 1000
    began_ms = (
        (_ms(at) // size_ms - counters.SLIDING_SLICES + 1) * size_ms
        if sliding
        else counters.window_began_ms(window, _ms(at))
    )
    rows = await session.execute(
        used,
        {
            "id": subject,
            "began": datetime.fromtimestamp(began_ms / 1000, UTC),
            "model": limit.model,
            "size_ms": size_ms,
        },
    )
    slices: dict[int, int] = defaultdict(int)
    for row in rows:
        slices[int(row.slice)] += _amount(window, row)
    if not slices:
        return
    if sliding:
        lasts_ms = size_ms * (counters.SLIDING_SLICES + 1)
        pairs = [number for pair in slices.items() for number in pair]
        await valkey.register_script(RAISE_SLICES)(keys=[counter], args=[lasts_ms, *pairs])
    else:
        ends = datetime.fromtimestamp((began_ms + size_ms) / 1000, UTC)
        await _raise(valkey, f"{counter}:{began_ms}", sum(slices.values()), until_ms=_ms(ends + KEPT))


async def _raise(valkey: Redis, place: str, least: int, *, until_ms: int = 0) -> None:
    await valkey.register_script(RAISE)(keys=[place], args=[least, until_ms])


def _amount(window: Window, row: Any) -> int:
    """Of one minute's requests to one model: rounded up together, while gateways round each."""
    weights = counters.token_weights(window, model=row.model_served, at=row.minute)
    each = counters.amount(
        window, weights, uncached=int(row.uncached), cached=int(row.cached), output=int(row.output)
    )
    return int(row.requests) if weights == (0, 0, 0) else each


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


RAISE = """
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then return end
redis.call('SET', KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > 0 then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
"""

RAISE_SLICES = """
for i = 2, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
  end
end
"""

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

SUBJECTS = {
    "org": text("""
        SELECT id, limits FROM organizations WHERE limits <> '[]' AND id > :after ORDER BY id LIMIT :limit
    """),
    "project": text("""
        SELECT id, limits FROM projects WHERE limits <> '[]' AND id > :after ORDER BY id LIMIT :limit
    """),
    "key": text("""
        SELECT id, limits FROM api_keys
        WHERE limits <> '[]' AND status = 'active' AND id > :after ORDER BY id LIMIT :limit
    """),
}

PLANS = {
    "org": text("""
        SELECT org AS id, limits FROM plan_entitlements
        WHERE project IS NULL AND org > :after ORDER BY org LIMIT :limit
    """),
    "project": text("""
        SELECT project AS id, limits FROM plan_entitlements
        WHERE project > :after ORDER BY project LIMIT :limit
    """),
}

# Outcomes and plans pay for what is bundled into them, so no budget counts it.
SPENT = {
    scope: text(f"""
        SELECT coalesce(ceil(sum(list_attos) / 1000000000000), 0) FROM usage_rollups
        WHERE {scope} = :id AND hour >= :began AND disposition NOT IN ('outcome_bundled', 'plan_window')
          AND (CAST(:model AS text) IS NULL OR model = :model)
    """)  # noqa: S608 - the scope is a column's name, from the table above
    for scope in SUBJECTS
}

USED_OF = """
    SELECT floor(extract(epoch FROM received_at) * 1000 / :size_ms) AS slice,
           date_trunc('minute', received_at) AS minute, model_served, count(*) AS requests,
           sum(tokens_input_uncached + tokens_cache_write) AS uncached, sum(tokens_cache_read) AS cached,
           sum(tokens_output_visible + tokens_reasoning) AS output
    FROM usage_effective
    WHERE {scope} = :id AND received_at >= :began AND (CAST(:model AS text) IS NULL OR model_served = :model) {only}
    GROUP BY slice, minute, model_served
"""

USED = {
    "org": text(USED_OF.format(scope="org", only="")),
    "project": text(USED_OF.format(scope="project", only="")),
    # Its project's index finds it.
    "key": text(
        USED_OF.format(scope="key", only="AND project = (SELECT k.project FROM api_keys k WHERE k.id = :id)")
    ),
}

# What a plan allows an organisation its projects without one of their own have used, and nothing that was paid otherwise.
USED_BY_PLAN = {
    "org": text(
        USED_OF.format(
            scope="org",
            only="""AND disposition = 'plan_window' AND NOT EXISTS (
              SELECT FROM plan_entitlements e WHERE e.project = usage_effective.project)""",
        )
    ),
    "project": text(USED_OF.format(scope="project", only="AND disposition = 'plan_window'")),
}

SOURCES = (*SUBJECTS.items(), *PLANS.items())
"""What is counted for whom."""

# Prices are of 1,000,000 tokens, so tokens times price are micro-units.
SPENT_BY_TASK = text("""
    SELECT t.id AS task, ceil(sum(
        (e.tokens_input_uncached * p.input_uncached) + (e.tokens_cache_read * p.cache_read)
        + (e.tokens_cache_write * p.cache_write)
        + ((e.tokens_output_visible + e.tokens_reasoning) * p.output))) AS micros
    FROM tasks t
    JOIN usage_effective e ON e.task = t.id
    JOIN price_book_prices p ON p.price_book = e.price_book AND p.model = e.model_served
    WHERE t.status = 'open' GROUP BY t.id
""")
