"""How long usage and cost queries take over rollups of 100 million events, through the API.

The rollups are generated in Postgres: requests of agents' sessions over sixty days, a tenth of them of one project.
"""

import asyncio
import statistics
import time
from typing import Any

import psycopg
from benchmarks.billing.parts import MODELS, Servers, log, seller, servers

DAYS = 60
PROJECTS = 200
REQUESTS_OF_AN_HOUR = 40
"""Of one session in one hour: that many events make one row of the finest rollup."""
ROUNDS = 5
ORG, PROJECT = "org_001", "prj_001"

MONTH = "start=2026-09-15T00:00:00Z&end=2026-10-15T00:00:00Z"
EDGES = "start=2026-09-15T05:00:00Z&end=2026-10-15T17:00:00Z"


def queries(*, events: int) -> dict[str, str]:
    """What is asked, by what it is for."""
    # Of the middle of the month: sessions are numbered in the order of time.
    session = f"ses_{events // REQUESTS_OF_AN_HOUR // 3 * 2 // 5:07d}"
    return {
        "usage of everybody by day and model, a month": f"/v1/usage?{MONTH}&granularity=day&group_by=model",
        "usage of everybody by hour, a month": f"/v1/usage?{MONTH}&granularity=hour",
        "costs of every organization, a month": f"/v1/costs?{MONTH}&group_by=organization&limit=1000",
        "costs of everybody by day, a month with hours at its edges": f"/v1/costs?{EDGES}&granularity=day",
        "costs of a large customer by key and model, a month": (
            f"/v1/costs?{MONTH}&organization={ORG}&group_by=key&group_by=model"
        ),
        "sessions of a large customer by day, a month": (
            f"/v1/usage?{MONTH}&organization={ORG}&granularity=day&group_by=session"
        ),
        "sessions of a large project by day, a month, the largest page": (
            f"/v1/costs?{MONTH}&project={PROJECT}&granularity=day&group_by=session&limit=1000"
        ),
        "sessions of a large project, a month": f"/v1/usage?{MONTH}&project={PROJECT}&group_by=session",
        "one session, a month": f"/v1/costs?{MONTH}&session={session}&granularity=day",
    }


def run(*, events: int) -> dict[str, Any]:
    with servers() as running:
        sizes = generate(running, events=events)
        return {
            "usage_query_ms": asyncio.run(_measure(running, queries(events=events))),
            "usage_query_events": events,
            "usage_query_sizes": sizes,
        }


def generate(running: Servers, *, events: int) -> dict[str, int]:
    rows = events // REQUESTS_OF_AN_HOUR
    with psycopg.connect(running.database_url, autocommit=True) as books:
        for statement in GENERATE:
            begun = time.monotonic()
            books.execute(
                statement,
                {
                    "rows": rows,
                    "hours": DAYS * 24,
                    "projects": PROJECTS,
                    "requests": REQUESTS_OF_AN_HOUR,
                    "models": list(MODELS),
                },
            )
            log(f"{statement.split('(')[0].strip()}: {time.monotonic() - begun:.0f} s")
        found = books.execute(SIZES).fetchall()
        books.execute("VACUUM ANALYZE")
    return {name: int(value) for name, value in found}


async def _measure(running: Servers, asked: dict[str, str]) -> dict[str, float]:
    found = {}
    async with seller(running) as admin:
        for name, path in asked.items():
            seconds = []
            for _ in range(ROUNDS):
                begun = time.perf_counter()
                page = await admin.get(path)
                seconds.append(time.perf_counter() - begun)
                assert page["items"], name
            found[name] = round(statistics.median(seconds) * 1000, 1)
            log(f"{found[name]:7.1f} ms  {name}")
    return found


SUMS = """requests, tokens_input_uncached, tokens_cache_read, tokens_cache_write, tokens_output_visible,
    tokens_reasoning, list_attos, charge_nanos"""
SUMMED = ", ".join(f"sum({name.strip()})" for name in SUMS.split(","))
PLACE = "org, project, key, wallet, currency, model, price_book, disposition, service_tier"

GENERATE = (
    """
    INSERT INTO organizations (id, name, created_at)
    SELECT 'org_' || to_char(n, 'FM000'), 'Customer ' || n, '2026-08-01' FROM generate_series(1, %(projects)s) AS n
    """,
    """
    INSERT INTO wallets (id, org, currency, created_at)
    SELECT 'wal_' || to_char(n, 'FM000'), 'org_' || to_char(n, 'FM000'), 'USD', '2026-08-01'
    FROM generate_series(1, %(projects)s) AS n
    """,
    """
    INSERT INTO projects (id, org, name, currency, disposition, wallet, status, limits, created_at)
    SELECT 'prj_' || to_char(n, 'FM000'), 'org_' || to_char(n, 'FM000'), 'production', 'USD', 'prepaid',
           'wal_' || to_char(n, 'FM000'), 'active', '[]', '2026-08-01'
    FROM generate_series(1, %(projects)s) AS n
    """,
    # In the order of time, as they would have come; a session lasts some three hours.
    f"""
    INSERT INTO usage_rollups_by_session (session, task, hour, {PLACE}, {SUMS})
    SELECT 'ses_' || to_char(n / 3, 'FM0000000'), '',
           timestamptz '2026-09-01 00:00Z' + make_interval(
             hours => (n::numeric * %(hours)s / %(rows)s)::int + n %% 3),
           'org_' || p.name, 'prj_' || p.name, 'key_' || p.name || '_' || (n / 3) %% 2, 'wal_' || p.name, 'USD',
           (CAST(%(models)s AS text[]))[1 + (n / 3) %% 3], 'pb_usd_1', 'prepaid', 'standard', %(requests)s,
           %(requests)s * 900, %(requests)s * 14000, 0, %(requests)s * 300, %(requests)s * 200,
           %(requests)s * 3180::numeric * 10^12, %(requests)s * 3180000
    FROM generate_series(1, %(rows)s) AS n
    CROSS JOIN LATERAL (
      SELECT to_char(CASE WHEN (n / 3) %% 10 = 0 THEN 1 ELSE 2 + (n / 3) %% (%(projects)s - 1) END, 'FM000') AS name
    ) AS p
    """,  # noqa: S608 - constants
    f"""
    INSERT INTO usage_rollups (hour, {PLACE}, {SUMS})
    SELECT hour, {PLACE}, {SUMMED} FROM usage_rollups_by_session GROUP BY hour, {PLACE} ORDER BY hour
    """,  # noqa: S608 - constants
    f"""
    INSERT INTO usage_rollups_by_day (hour, {PLACE}, {SUMS})
    SELECT date_trunc('day', hour), {PLACE}, {SUMMED} FROM usage_rollups GROUP BY 1, {PLACE} ORDER BY 1
    """,  # noqa: S608 - constants
)

SIZES = """
    SELECT 'events', sum(requests)::bigint FROM usage_rollups
    UNION ALL SELECT 'rows_by_session', count(*) FROM usage_rollups_by_session
    UNION ALL SELECT 'rows_by_hour', count(*) FROM usage_rollups
    UNION ALL SELECT 'rows_by_day', count(*) FROM usage_rollups_by_day
    UNION ALL SELECT 'bytes_by_session', pg_total_relation_size('usage_rollups_by_session')
    UNION ALL SELECT 'bytes_by_hour', pg_total_relation_size('usage_rollups')
    UNION ALL SELECT 'bytes_by_day', pg_total_relation_size('usage_rollups_by_day')
"""
