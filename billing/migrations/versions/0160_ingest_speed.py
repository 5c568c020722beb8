"""What each usage event costs to store: a payload that is kept as it came, and two indexes for four."""

from alembic import op

revision = "0160"
down_revision = "0120"
branch_labels = None
depends_on = None

STATEMENTS = (
    "DROP VIEW usage_effective",
    "ALTER TABLE usage_events ADD COLUMN witnessed boolean NOT NULL DEFAULT true",
    # Postgres need not take apart what billing alone reads; the one thing in it that a query asks for has its column.
    """
    ALTER TABLE usage_events
      ALTER COLUMN witnessed TYPE boolean USING coalesce((payload ->> 'witnessed')::boolean, true),
      ALTER COLUMN payload TYPE text USING payload::text
    """,
    """
    CREATE VIEW usage_effective AS
      SELECT e.* FROM usage_events e
      WHERE e.grade = 1
         OR NOT EXISTS (SELECT 1 FROM usage_events f WHERE f.id = e.id AND f.grade = 1)
    """,
    """
    CREATE OR REPLACE FUNCTION usage_events_must_refer() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      f record;
    BEGIN
      FOR f IN SELECT DISTINCT price_book, model_served, batch FROM fresh LOOP
        IF NOT EXISTS (SELECT 1 FROM price_book_prices p WHERE p.price_book = f.price_book AND p.model = f.model_served) THEN
          RAISE EXCEPTION 'a usage event names a price book or a model in it that is not there'
            USING ERRCODE = 'foreign_key_violation';
        END IF;
        IF NOT EXISTS (SELECT 1 FROM ingest_batches b WHERE b.id = f.batch) THEN
          RAISE EXCEPTION 'a usage event names a batch that is not there' USING ERRCODE = 'foreign_key_violation';
        END IF;
      END LOOP;
      RETURN NULL;
    END $$
    """,
    # A key is one of a project, and whoever asks of an organisation's deployment asks for a time: the last column is
    # compared within the index.
    "DROP INDEX usage_events_of_org, usage_events_of_deployment, usage_events_of_project, usage_events_of_key",
    "CREATE INDEX usage_events_of_org ON usage_events (org, received_at, deployment)",
    "CREATE INDEX usage_events_of_project ON usage_events (project, received_at, key)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
