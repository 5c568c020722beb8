"""What each usage event refers to, checked once a statement and not once an event; and room for sums to change in place."""

from alembic import op

revision = "0080"
down_revision = "0072"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Prices are append-only, and so are batches from now on: what was there when an event came is there for good.
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ingest_batches
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    """
    CREATE FUNCTION usage_events_must_refer() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (
        SELECT 1 FROM (SELECT DISTINCT price_book, model_served FROM fresh) AS f
        WHERE NOT EXISTS (
          SELECT 1 FROM price_book_prices p WHERE p.price_book = f.price_book AND p.model = f.model_served)
      ) THEN
        RAISE EXCEPTION 'a usage event names a price book or a model in it that is not there'
          USING ERRCODE = 'foreign_key_violation';
      END IF;
      IF EXISTS (
        SELECT 1 FROM (SELECT DISTINCT batch FROM fresh) AS f
        WHERE NOT EXISTS (SELECT 1 FROM ingest_batches b WHERE b.id = f.batch)
      ) THEN
        RAISE EXCEPTION 'a usage event names a batch that is not there' USING ERRCODE = 'foreign_key_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER usage_events_must_refer AFTER INSERT ON usage_events REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION usage_events_must_refer()
    """,
    """
    ALTER TABLE usage_events
      DROP CONSTRAINT usage_events_price_book_model_served_fkey,
      DROP CONSTRAINT usage_events_batch_fkey
    """,
    # Every batch changes some of these rows. A page with room takes the change, and no index hears of it.
    "ALTER TABLE usage_rollups_by_session SET (fillfactor = 80)",
    "ALTER TABLE usage_rollups SET (fillfactor = 50)",
    "ALTER TABLE usage_rollups_by_day SET (fillfactor = 50)",
    "ALTER TABLE rated_usage SET (fillfactor = 50)",
    "ALTER TABLE ledger_balances SET (fillfactor = 50)",
    "ALTER TABLE wallets SET (fillfactor = 50)",
    "ALTER TABLE credit_lots SET (fillfactor = 50)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
