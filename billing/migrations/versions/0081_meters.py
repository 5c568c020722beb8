"""Outside meters: who may report usage, backfills that two people agreed to, and gaps in their numbers."""

from alembic import op

revision = "0081"
down_revision = "0080"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE meters (
      id text PRIMARY KEY,
      name text NOT NULL,
      org text REFERENCES organizations,
      token_sha256 text NOT NULL UNIQUE,
      prefix text NOT NULL,
      created_at timestamptz NOT NULL,
      revoked_at timestamptz
    )
    """,
    """
    CREATE TABLE backfills (
      id text PRIMARY KEY,
      meter text NOT NULL REFERENCES meters,
      starts_at timestamptz NOT NULL,
      ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
      reason text NOT NULL,
      requested_by text NOT NULL,
      approved_by text NOT NULL CHECK (approved_by <> requested_by),
      opened_at timestamptz NOT NULL,
      closes_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX backfills_of_meter ON backfills (meter, closes_at)",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON backfills
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    # Which meter a batch came from, by which its events, and those of a backfill, are found again.
    """
    ALTER TABLE ingest_batches
      ADD COLUMN meter text REFERENCES meters,
      DROP CONSTRAINT ingest_batches_source_check,
      ADD CHECK (source IN ('stream', 'journal', 'meter')),
      ADD CHECK ((source = 'meter') = (meter IS NOT NULL))
    """,
    "CREATE INDEX ingest_batches_of_meter ON ingest_batches (meter, committed_at) WHERE meter IS NOT NULL",
    "CREATE INDEX usage_events_of_meter ON usage_events (batch) WHERE dialect = 'outside'",
    # As `journals`, for the sources that meters number; nobody is told of them.
    """
    CREATE TABLE meter_sequences (
      meter text NOT NULL REFERENCES meters,
      source text NOT NULL,
      contiguous bigint NOT NULL DEFAULT 0,
      above jsonb NOT NULL DEFAULT '[]',
      gap_since timestamptz,
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (meter, source)
    )
    """,
    "CREATE INDEX meter_sequences_with_gaps ON meter_sequences (gap_since) WHERE gap_since IS NOT NULL",
    # A range of a meter's numbers that nothing will come for, said by two people.
    """
    CREATE TABLE declared_gaps (
      meter text NOT NULL REFERENCES meters,
      source text NOT NULL,
      first bigint NOT NULL CHECK (first >= 1),
      last bigint NOT NULL CHECK (last >= first),
      reason text NOT NULL,
      declared_by text NOT NULL,
      confirmed_by text NOT NULL CHECK (confirmed_by <> declared_by),
      declared_at timestamptz NOT NULL,
      PRIMARY KEY (meter, source, first)
    )
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON declared_gaps
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
