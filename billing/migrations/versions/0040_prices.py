"""Prices of more kinds, by window and service tier, and of an organisation's own; charges beside the rollups.

Every book so far is flat, so what is there keeps its charges: columns are added with the values that say so, and
each rollup gets its share of what was posted, to the nano-unit.
"""

from alembic import op

revision = "0040"
down_revision = "0031"
branch_labels = None
depends_on = None

STATEMENTS = (
    # `base` is the version that an organisation's own book was made from.
    """
    ALTER TABLE price_books
      ADD COLUMN org text REFERENCES organizations,
      ADD COLUMN base text REFERENCES price_books,
      ADD COLUMN effective_at timestamptz,
      ADD COLUMN windows jsonb NOT NULL DEFAULT '{}',
      ADD CHECK (org IS NOT NULL OR base IS NULL),
      DROP CONSTRAINT price_books_currency_version_key
    """,
    "ALTER TABLE price_books DISABLE TRIGGER append_only",
    "UPDATE price_books SET effective_at = published_at",
    "ALTER TABLE price_books ENABLE TRIGGER append_only",
    "ALTER TABLE price_books ALTER COLUMN effective_at SET NOT NULL",
    """
    CREATE UNIQUE INDEX price_books_by_version
    ON price_books (currency, coalesce(org, ''), version)
    """,
    """
    CREATE INDEX price_books_in_force
    ON price_books (currency, coalesce(org, ''), effective_at DESC, version DESC)
    """,
    # Null means that all four prices are plain; the columns beside it are then the prices, and else their ceilings.
    "ALTER TABLE price_book_prices ADD COLUMN definition jsonb",
    # What an organisation pays otherwise than others, whole each time; empty means nothing any more.
    """
    CREATE TABLE price_overrides (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      org text NOT NULL REFERENCES organizations,
      published_at timestamptz NOT NULL,
      effective_at timestamptz NOT NULL,
      models jsonb NOT NULL,
      inherited_times numeric(30, 12) CHECK (inherited_times >= 0)
    )
    """,
    "CREATE INDEX price_overrides_of_org ON price_overrides (currency, org, effective_at DESC, id DESC)",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_overrides
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    # Which book gateways were last told to admit by; org is empty for a currency's own list.
    """
    CREATE TABLE price_cards (
      currency text NOT NULL,
      org text NOT NULL,
      price_book text NOT NULL REFERENCES price_books,
      PRIMARY KEY (currency, org)
    )
    """,
    """
    INSERT INTO price_cards (currency, org, price_book)
    SELECT DISTINCT ON (currency) currency, '', id FROM price_books ORDER BY currency, version DESC
    """,
    # What decides a price, wherever quantities are kept.
    """
    ALTER TABLE usage_events
      ADD COLUMN service_tier text NOT NULL DEFAULT 'standard',
      ADD COLUMN price_window text NOT NULL DEFAULT ''
    """,
    # A view has the columns that its table had; what follows from the new ones must see them.
    """
    CREATE OR REPLACE VIEW usage_effective AS
      SELECT e.* FROM usage_events e
      WHERE e.grade = 1
         OR NOT EXISTS (SELECT 1 FROM usage_events f WHERE f.id = e.id AND f.grade = 1)
    """,
    """
    ALTER TABLE rated_usage
      ADD COLUMN price_window text NOT NULL DEFAULT '',
      ADD COLUMN service_tier text NOT NULL DEFAULT 'standard',
      ADD COLUMN closed boolean NOT NULL DEFAULT false,
      DROP CONSTRAINT rated_usage_pkey,
      ADD PRIMARY KEY (period, project, wallet, price_book, model, disposition, token_class, price_window, service_tier)
    """,
    """
    ALTER TABLE invoice_portions
      ADD COLUMN price_window text NOT NULL DEFAULT '',
      ADD COLUMN service_tier text NOT NULL DEFAULT 'standard',
      DROP CONSTRAINT invoice_portions_tokens_check,
      ADD CHECK (tokens <> 0 OR nanos <> 0)
    """,
    """
    ALTER TABLE invoice_lines
      ADD COLUMN price_window text NOT NULL DEFAULT '',
      ADD COLUMN service_tier text NOT NULL DEFAULT 'standard'
    """,
    """
    ALTER TABLE usage_rollups
      ADD COLUMN service_tier text NOT NULL DEFAULT 'standard',
      ADD COLUMN charge_nanos numeric(38, 0) NOT NULL DEFAULT 0,
      DROP CONSTRAINT usage_rollups_pkey,
      ADD PRIMARY KEY (hour, project, key, wallet, model, price_book, disposition, service_tier)
    """,
    # The same by session and task, which are empty for requests that name none.
    """
    CREATE TABLE usage_rollups_by_session (
      session text NOT NULL,
      task text NOT NULL,
      hour timestamptz NOT NULL,
      org text NOT NULL,
      project text NOT NULL,
      key text NOT NULL,
      wallet text NOT NULL,
      currency text NOT NULL,
      model text NOT NULL,
      price_book text NOT NULL,
      disposition text NOT NULL,
      service_tier text NOT NULL,
      requests bigint NOT NULL,
      tokens_input_uncached bigint NOT NULL,
      tokens_cache_read bigint NOT NULL,
      tokens_cache_write bigint NOT NULL,
      tokens_output_visible bigint NOT NULL,
      tokens_reasoning bigint NOT NULL,
      list_attos numeric(50, 0) NOT NULL,
      charge_nanos numeric(38, 0) NOT NULL,
      PRIMARY KEY (project, session, task, hour, key, wallet, model, price_book, disposition, service_tier)
    )
    """,
    "CREATE INDEX usage_rollups_by_session_of_org ON usage_rollups_by_session (org, session, hour)",
    "CREATE INDEX usage_rollups_by_session_of_task ON usage_rollups_by_session (task, hour) WHERE task <> ''",
    "CREATE INDEX usage_rollups_of_project ON usage_rollups (project, hour)",
    # And by the day, from which a seller's whole month is read in a moment.
    """
    CREATE TABLE usage_rollups_by_day (
      LIKE usage_rollups INCLUDING DEFAULTS,
      PRIMARY KEY (hour, project, key, wallet, model, price_book, disposition, service_tier)
    )
    """,
    "CREATE INDEX usage_rollups_by_day_of_org ON usage_rollups_by_day (org, hour)",
    "CREATE INDEX usage_rollups_by_day_of_project ON usage_rollups_by_day (project, hour)",
    # What each event moved its group's charge by, in the order of receipt: the sums are what was posted.
    """
    CREATE TEMPORARY TABLE event_charges ON COMMIT DROP AS
    SELECT id, sum(charge) AS charge_nanos, sum(quantity * price) AS list_attos FROM (
      SELECT e.id, c.quantity, c.price,
             round(sum(c.quantity * c.price * 1000) OVER upto)
             - round(sum(c.quantity * c.price * 1000) OVER upto - c.quantity * c.price * 1000) AS charge
      FROM usage_effective e
      JOIN price_book_prices p ON p.price_book = e.price_book AND p.model = e.model_served
      CROSS JOIN LATERAL (VALUES
        ('input_uncached', e.tokens_input_uncached, p.input_uncached),
        ('cache_read', e.tokens_cache_read, p.cache_read),
        ('cache_write', e.tokens_cache_write, p.cache_write),
        ('output', e.tokens_output_visible + e.tokens_reasoning, p.output)) AS c (token_class, quantity, price)
      WINDOW upto AS (
        PARTITION BY e.project, e.wallet, e.price_book, e.model_served, e.disposition, c.token_class,
                     date_trunc('month', e.received_at)
        ORDER BY e.received_at, e.id)
    ) AS charged GROUP BY id
    """,
    """
    UPDATE usage_rollups u SET charge_nanos = c.charge_nanos FROM (
      SELECT date_trunc('hour', e.received_at) AS hour, e.project, e.key, e.wallet, e.model_served, e.price_book,
             e.disposition, sum(c.charge_nanos) AS charge_nanos
      FROM usage_effective e JOIN event_charges c USING (id)
      WHERE e.disposition IN ('prepaid', 'payg')
      GROUP BY 1, 2, 3, 4, 5, 6, 7
    ) AS c
    WHERE (u.hour, u.project, u.key, u.wallet, u.model, u.price_book, u.disposition)
        = (c.hour, c.project, c.key, c.wallet, c.model_served, c.price_book, c.disposition)
    """,
    """
    INSERT INTO usage_rollups_by_session
    SELECT coalesce(e.session, ''), coalesce(e.task, ''), date_trunc('hour', e.received_at), e.org, e.project, e.key,
           e.wallet, e.currency, e.model_served, e.price_book, e.disposition, 'standard', count(*),
           sum(e.tokens_input_uncached), sum(e.tokens_cache_read), sum(e.tokens_cache_write),
           sum(e.tokens_output_visible), sum(e.tokens_reasoning), sum(c.list_attos * 1000000000000),
           sum(CASE WHEN e.disposition IN ('prepaid', 'payg') THEN c.charge_nanos ELSE 0 END)
    FROM usage_effective e JOIN event_charges c USING (id)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    """,
    """
    INSERT INTO usage_rollups_by_day
    SELECT date_trunc('day', hour), org, project, key, wallet, currency, model, price_book, disposition,
           sum(requests), sum(tokens_input_uncached), sum(tokens_cache_read), sum(tokens_cache_write),
           sum(tokens_output_visible), sum(tokens_reasoning), sum(list_attos), service_tier, sum(charge_nanos)
    FROM usage_rollups GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, service_tier
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
