"""Usage: events as they came, what they add up to, how far each journal is safe, and what engines say they yielded."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE ingest_batches (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      source text NOT NULL CHECK (source IN ('stream', 'journal')),
      events integer NOT NULL,
      committed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE usage_events (
      id uuid NOT NULL,
      grade smallint NOT NULL CHECK (grade IN (0, 1)),
      batch bigint NOT NULL REFERENCES ingest_batches,
      producer text NOT NULL,
      boot text NOT NULL,
      sequence bigint NOT NULL CHECK (sequence >= 0),
      org text NOT NULL,
      project text NOT NULL,
      key text NOT NULL,
      wallet text NOT NULL,
      currency text NOT NULL,
      deployment text NOT NULL,
      model_requested text NOT NULL,
      model_served text NOT NULL,
      dialect text NOT NULL,
      session text,
      task text,
      task_attempt text,
      received_at timestamptz NOT NULL,
      first_token_at timestamptz,
      finished_at timestamptz NOT NULL,
      ending text NOT NULL,
      attempts integer NOT NULL CHECK (attempts >= 0),
      tokens_input_uncached bigint NOT NULL CHECK (tokens_input_uncached >= 0),
      tokens_cache_read bigint NOT NULL CHECK (tokens_cache_read >= 0),
      tokens_cache_write bigint NOT NULL CHECK (tokens_cache_write >= 0),
      tokens_output_visible bigint NOT NULL CHECK (tokens_output_visible >= 0),
      tokens_reasoning bigint NOT NULL CHECK (tokens_reasoning >= 0),
      price_book text NOT NULL,
      disposition text NOT NULL,
      payload jsonb NOT NULL,
      payload_hash bytea NOT NULL CHECK (octet_length(payload_hash) = 32),
      stored_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (id, grade),
      FOREIGN KEY (price_book, model_served) REFERENCES price_book_prices (price_book, model)
    )
    """,
    "CREATE INDEX usage_events_of_org ON usage_events (org, received_at)",
    "CREATE INDEX usage_events_of_project ON usage_events (project, received_at)",
    "CREATE INDEX usage_events_of_task ON usage_events (task) WHERE task IS NOT NULL",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_events
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    # What counts of each request: its final event, or its estimate while there is no final one.
    """
    CREATE VIEW usage_effective AS
      SELECT e.* FROM usage_events e
      WHERE e.grade = 1
         OR NOT EXISTS (SELECT 1 FROM usage_events f WHERE f.id = e.id AND f.grade = 1)
    """,
    """
    CREATE TABLE usage_conflicts (
      id uuid NOT NULL,
      grade smallint NOT NULL,
      payload_hash bytea NOT NULL,
      payload jsonb NOT NULL,
      source text NOT NULL,
      stored_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (id, grade, payload_hash)
    )
    """,
    """
    CREATE TABLE usage_quarantine (
      sha256 bytea PRIMARY KEY,
      raw bytea NOT NULL,
      reason text NOT NULL,
      source text NOT NULL,
      stored_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # `list_attos` is tokens times price, exact and unrounded: 10^-18 of the currency's major unit. So a rollup
    # does not depend on the order in which its events came.
    """
    CREATE TABLE usage_rollups (
      hour timestamptz NOT NULL,
      org text NOT NULL,
      project text NOT NULL,
      key text NOT NULL,
      wallet text NOT NULL,
      currency text NOT NULL,
      model text NOT NULL,
      price_book text NOT NULL,
      disposition text NOT NULL,
      requests bigint NOT NULL CHECK (requests >= 0),
      tokens_input_uncached bigint NOT NULL,
      tokens_cache_read bigint NOT NULL,
      tokens_cache_write bigint NOT NULL,
      tokens_output_visible bigint NOT NULL,
      tokens_reasoning bigint NOT NULL,
      list_attos numeric(50, 0) NOT NULL,
      PRIMARY KEY (hour, project, key, wallet, model, price_book, disposition)
    )
    """,
    "CREATE INDEX usage_rollups_of_org ON usage_rollups (org, hour)",
    # `charge_nanos` is the rated cumulative quantity, rounded once; the ledger was posted each of its deltas.
    """
    CREATE TABLE rated_usage (
      period date NOT NULL CHECK (extract(day FROM period) = 1),
      org text NOT NULL,
      project text NOT NULL,
      wallet text NOT NULL,
      currency text NOT NULL,
      price_book text NOT NULL,
      model text NOT NULL,
      disposition text NOT NULL,
      token_class text NOT NULL CHECK (token_class IN ('input_uncached', 'cache_read', 'cache_write', 'output')),
      quantity bigint NOT NULL CHECK (quantity >= 0),
      charge_nanos numeric(38, 0) NOT NULL CHECK (charge_nanos >= 0),
      PRIMARY KEY (period, project, wallet, price_book, model, disposition, token_class)
    )
    """,
    "CREATE INDEX rated_usage_of_org ON rated_usage (org, period)",
    # `above` holds the ranges of sequences received beyond the first gap, as [[first, last], ...].
    """
    CREATE TABLE journals (
      producer text NOT NULL,
      boot text NOT NULL,
      contiguous bigint NOT NULL DEFAULT 0,
      above jsonb NOT NULL DEFAULT '[]',
      published bigint NOT NULL DEFAULT 0,
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (producer, boot)
    )
    """,
    "CREATE INDEX journals_to_publish ON journals (producer) WHERE published < contiguous",
    """
    CREATE TABLE stream_cursors (
      stream text PRIMARY KEY,
      committed text NOT NULL
    )
    """,
    """
    CREATE TABLE engine_records (
      replica text NOT NULL,
      attempt text NOT NULL,
      request_id uuid,
      deployment text NOT NULL,
      model text NOT NULL,
      ending text NOT NULL CHECK (ending IN ('finished', 'aborted', 'failed', 'started')),
      prompt bigint NOT NULL CHECK (prompt >= 0),
      cached bigint NOT NULL CHECK (cached BETWEEN 0 AND prompt),
      output bigint NOT NULL CHECK (output >= 0),
      started_at timestamptz NOT NULL,
      finished_at timestamptz,
      probe boolean NOT NULL,
      stored_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (replica, attempt)
    )
    """,
    "CREATE INDEX engine_records_of_request ON engine_records (request_id)",
    "CREATE INDEX engine_records_by_time ON engine_records (started_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
