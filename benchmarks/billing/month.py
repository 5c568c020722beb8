"""A month of many customers in the books, as ingest would have left it, written by SQL because that takes minutes.

Everything that an invoice is drawn up from or reconciled against is there: events, what engines say of them, rollups,
ratings and the ledger. Every price is a whole number of nano-units a token, so that no rounding has to be shared out.
"""

from datetime import UTC, datetime

import psycopg
from benchmarks.billing.parts import log

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)

CLASSES = 4
CUSTOMERS_AT_ONCE = 2000
PRICES = {"input_uncached": "0.6", "cache_read": "0.11", "cache_write": "0.75", "output": "2.2"}


def models(lines: int) -> list[str]:
    """One for each four lines of an invoice, a line a class of tokens."""
    return [f"glm-bench-{number:02d}" for number in range(-(-lines // CLASSES))]


def fill(database_url: str, *, price_book: str, customers: int, lines: int, requests: int) -> None:
    """Customers with `lines` lines each, of which every model was asked `requests` times."""
    with psycopg.connect(database_url, autocommit=True) as books:
        for first in range(0, customers, CUSTOMERS_AT_ONCE):
            parameters = {
                "first": first,
                "last": min(first + CUSTOMERS_AT_ONCE, customers) - 1,
                "models": models(lines),
                # How many classes of tokens the last model has.
                "odd": lines % CLASSES or CLASSES,
                "requests": requests,
                "price_book": price_book,
                "start": START,
                "end": END,
            }
            with books.transaction():
                for statement in STATEMENTS:
                    books.execute(statement, parameters)
            if (first + CUSTOMERS_AT_ONCE) % (10 * CUSTOMERS_AT_ONCE) == 0:
                log(f"{first + CUSTOMERS_AT_ONCE} customers have used something")
        books.execute("ANALYZE")
        books.execute("CHECKPOINT")


STATEMENTS = (
    """
    CREATE TEMPORARY TABLE asked ON COMMIT DROP AS
    SELECT gen_random_uuid() AS id, c AS customer, 'org_' || lpad(c::text, 8, '0') AS org,
           'prj_' || lpad(c::text, 8, '0') AS project, 'wal_' || lpad(c::text, 8, '0') AS wallet,
           'key_' || lpad(c::text, 8, '0') AS key, m.model, m.place,
           CAST(%(start)s AS timestamptz) + (hashint8(c * 31 + m.place * 7 + n) & 2147483647)
             %% CAST(extract(epoch FROM %(end)s - CAST(%(start)s AS timestamptz)) AS integer) * interval '1 second'
             AS received_at,
           1000 + (c + m.place) %% 997 AS input_uncached, 2000 + (c * 3) %% 4999 AS cache_read,
           CASE WHEN m.place < cardinality(%(models)s::text[]) OR %(odd)s > 2 THEN 10 + c %% 89 ELSE 0 END AS cache_write,
           CASE WHEN m.place < cardinality(%(models)s::text[]) OR %(odd)s > 3 THEN 100 + c %% 499 ELSE 0 END AS output
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS c,
         unnest(%(models)s::text[]) WITH ORDINALITY AS m (model, place),
         generate_series(1, %(requests)s) AS n
    """,
    """
    INSERT INTO organizations (id, name, created_at)
    SELECT DISTINCT org, 'Customer ' || customer, CAST(%(start)s AS timestamptz) - interval '1 day' FROM asked
    """,
    """
    INSERT INTO wallets (id, org, currency, created_at)
    SELECT DISTINCT wallet, org, 'USD', CAST(%(start)s AS timestamptz) FROM asked
    """,
    """
    INSERT INTO projects (id, org, name, currency, disposition, wallet, status, limits, created_at)
    SELECT DISTINCT project, org, 'production', 'USD', 'payg', wallet, 'active', CAST('[]' AS jsonb),
           CAST(%(start)s AS timestamptz) FROM asked
    """,
    "INSERT INTO ingest_batches (source, events) SELECT 'journal', count(*) FROM asked",
    """
    INSERT INTO usage_events (id, grade, batch, producer, boot, sequence, org, project, key, wallet, currency, deployment,
                              model_requested, model_served, dialect, received_at, finished_at, ending, attempts,
                              tokens_input_uncached, tokens_cache_read, tokens_cache_write, tokens_output_visible,
                              tokens_reasoning, price_book, disposition, payload, payload_hash)
    SELECT id, 1, (SELECT max(id) FROM ingest_batches), 'gateway-0.0', 'bench', row_number() OVER (), org, project, key,
           wallet, 'USD', 'dep-' || place, model, model, 'openai_chat', received_at, received_at + interval '2 seconds',
           'completed', 1, input_uncached, cache_read, cache_write, output, 0, %(price_book)s, 'payg',
           jsonb_build_object('engine', repeat('u', 600)), sha256(id::text::bytea)
    FROM asked
    """,
    """
    INSERT INTO engine_records (replica, attempt, request_id, deployment, model, ending, prompt, cached, output,
                                started_at, finished_at, probe)
    SELECT 'replica-1', id || '.1', id, 'dep-' || place, model, 'finished', input_uncached + cache_read + cache_write,
           cache_read, output, received_at, received_at + interval '2 seconds', false FROM asked
    """,
    """
    CREATE TEMPORARY TABLE rated ON COMMIT DROP AS
    SELECT a.org, a.project, a.wallet, a.model, c.class, sum(c.quantity) AS quantity, sum(c.quantity * c.nanos) AS nanos
    FROM asked a, LATERAL (VALUES ('input_uncached', a.input_uncached, 600), ('cache_read', a.cache_read, 110),
      ('cache_write', a.cache_write, 750), ('output', a.output, 2200)) AS c (class, quantity, nanos)
    WHERE c.quantity > 0 GROUP BY 1, 2, 3, 4, 5
    """,
    """
    INSERT INTO rated_usage (period, org, project, wallet, currency, price_book, model, disposition, token_class, quantity,
                             charge_nanos)
    SELECT CAST(%(start)s AS timestamptz), org, project, wallet, 'USD', %(price_book)s, model, 'payg', class, quantity,
           nanos FROM rated
    """,
    *(
        f"""
        INSERT INTO {table} ({extra} hour, org, project, key, wallet, currency, model, price_book, disposition,
                             service_tier, requests, tokens_input_uncached, tokens_cache_read, tokens_cache_write,
                             tokens_output_visible, tokens_reasoning, list_attos, charge_nanos)
        SELECT {values} date_trunc('{unit}', received_at) AS hour, org, project, key, wallet, 'USD', model,
               %(price_book)s, 'payg', 'standard', count(*), sum(input_uncached), sum(cache_read), sum(cache_write),
               sum(output), 0, sum(nanos) * 1000000000, sum(nanos)
        FROM (SELECT *, input_uncached * 600 + cache_read * 110 + cache_write * 750 + output * 2200 AS nanos FROM asked)
          AS charged
        GROUP BY date_trunc('{unit}', received_at), org, project, key, wallet, model
        """  # noqa: S608 - names of tables, from below
        for table, unit, extra, values in (
            ("usage_rollups", "hour", "", ""),
            ("usage_rollups_by_day", "day", "", ""),
            ("usage_rollups_by_session", "hour", "session, task,", "'', '',"),
        )
    ),
    """
    WITH posted AS (
      INSERT INTO ledger_transactions (key, payload_hash, kind, currency, occurred_at, memo)
      SELECT 'usage:bench:' || project, sha256(project::bytea), 'usage', 'USD', CAST(%(end)s AS timestamptz) - interval '1 s',
             jsonb_build_object('period', to_char(CAST(%(start)s AS timestamptz), 'YYYY-MM'), 'project', project,
                                'org', org)
      FROM rated GROUP BY org, project RETURNING id, memo
    )
    INSERT INTO ledger_postings (transaction_id, kind, owner, currency, amount_nanos)
    SELECT p.id, side.kind, CASE side.kind WHEN 'unbilled' THEN p.memo ->> 'org' ELSE 'business' END, 'USD',
           side.sign * r.nanos
    FROM posted p
    JOIN (SELECT project, sum(nanos) AS nanos FROM rated GROUP BY project) r ON r.project = p.memo ->> 'project'
    CROSS JOIN (VALUES ('unbilled', 1), ('revenue_tokens', -1)) AS side (kind, sign)
    """,
)
