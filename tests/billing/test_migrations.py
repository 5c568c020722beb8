"""A database of an older release comes to the newest revision with every charge as it was, to the nano-unit."""

from collections.abc import AsyncIterator

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from headrace_billing.database import Database, psycopg_url
from headrace_billing.reconciliation.reconciling import reconcile
from headrace_billing.reconciliation.report import Scope
from headrace_billing.reconciliation.request import Graces
from headrace_billing.schema import _config, migrate
from tests.billing.seller import NOW
from tests.support.postgres import PostgresServer

BEFORE_PRICES = "0020"

# Three requests of odd prices, one inside a session; rolled up, rated and posted as that release did.
OLDER = """
    INSERT INTO organizations (id, name, created_at) VALUES ('org_a', 'A', '2026-11-01T00:00:00Z');
    INSERT INTO wallets (id, org, currency, created_at) VALUES ('wal_a', 'org_a', 'USD', '2026-11-01T00:00:00Z');
    INSERT INTO projects (id, org, name, currency, disposition, wallet, status, limits, created_at)
    VALUES ('prj_a', 'org_a', 'p', 'USD', 'payg', 'wal_a', 'active', '[]', '2026-11-01T00:00:00Z');
    INSERT INTO price_books (id, currency, version, published_at) VALUES ('pb_usd_1', 'USD', 1, '2026-11-01T00:00:00Z');
    INSERT INTO price_book_prices (price_book, model, input_uncached, cache_read, cache_write, output)
    VALUES ('pb_usd_1', 'glm', 0.1639, 0.00007, 1.1, 2.200001);
    INSERT INTO ingest_batches (source, events) VALUES ('journal', 3);
    INSERT INTO usage_events (
      id, grade, batch, producer, boot, sequence, org, project, key, wallet, currency, deployment, model_requested,
      model_served, dialect, session, received_at, finished_at, ending, attempts, tokens_input_uncached,
      tokens_cache_read, tokens_cache_write, tokens_output_visible, tokens_reasoning, price_book, disposition, payload,
      payload_hash)
    SELECT gen_random_uuid(), 1, 1, 'g', 'b', n, 'org_a', 'prj_a', 'key_a', 'wal_a', 'USD', 'd', 'glm', 'glm',
           'openai.chat', CASE n WHEN 2 THEN 's' END, timestamptz '2026-11-02T00:30:00Z' + n * interval '1 hour',
           '2026-11-02T12:00:00Z', 'completed', 1, 7 * n, n, 3, n, 1, 'pb_usd_1', 'payg', '{}', sha256('x')
    FROM generate_series(1, 3) AS n;
    INSERT INTO usage_rollups
    SELECT date_trunc('hour', received_at), org, project, key, wallet, currency, model_served, price_book, disposition,
           1, tokens_input_uncached, tokens_cache_read, tokens_cache_write, tokens_output_visible, tokens_reasoning, 0
    FROM usage_events;
    INSERT INTO rated_usage
    SELECT '2026-11-01', 'org_a', 'prj_a', 'wal_a', 'USD', 'pb_usd_1', 'glm', 'payg', c.token_class,
           sum(c.quantity), round(sum(c.quantity) * max(c.price) * 1000)
    FROM usage_events, price_book_prices p, LATERAL (VALUES
      ('input_uncached', tokens_input_uncached, p.input_uncached), ('cache_read', tokens_cache_read, p.cache_read),
      ('cache_write', tokens_cache_write, p.cache_write),
      ('output', tokens_output_visible + tokens_reasoning, p.output)) AS c (token_class, quantity, price)
    GROUP BY c.token_class;
    INSERT INTO ledger_transactions (key, payload_hash, kind, currency, occurred_at, memo)
    VALUES ('usage:1', sha256('x'), 'usage', 'USD', '2026-11-02T12:00:00Z', '{"period": "2026-11"}');
    INSERT INTO ledger_postings (transaction_id, kind, owner, currency, amount_nanos)
    SELECT 1, a.kind, a.owner, 'USD', a.sign * (SELECT sum(charge_nanos) FROM rated_usage)
    FROM (VALUES ('unbilled', 'org_a', 1), ('revenue_tokens', 'business', -1)) AS a (kind, owner, sign)
"""


@pytest.fixture
async def migrated(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    url = postgres_server.create_database()
    engine = create_engine(psycopg_url(url))
    with engine.connect() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE_PRICES)
        connection.execute(text("SET timezone TO 'UTC'"))
        connection.exec_driver_sql(OLDER)
        connection.commit()
    engine.dispose()
    migrate(url)
    database = Database(url)
    yield database
    await database.close()


async def test_rollups_of_an_older_release_get_exactly_what_was_posted(migrated: Database) -> None:
    async with migrated.begin() as session:
        rolled, rated, sessions = (
            await session.execute(
                text("""
                    SELECT (SELECT sum(charge_nanos) FROM usage_rollups), (SELECT sum(charge_nanos) FROM rated_usage),
                           (SELECT array_agg(ROW(session, requests)::text) FROM usage_rollups_by_session)
                """)
            )
        ).one()
    assert rolled == rated > 0
    assert sorted(sessions) == ['("",1)', '("",1)', "(s,1)"]


async def test_books_of_an_older_release_reconcile(migrated: Database) -> None:
    async with migrated.snapshot() as session:
        report = await reconcile(session, Scope("org_a", NOW.replace(day=1), NOW), now=NOW, graces=Graces())
    assert [check["name"] for check in report.document()["checks"] if not check["holds"]] == []
