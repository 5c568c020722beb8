"""Months of the books that are closed for good: nothing is posted into one, and what comes late names it."""

from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Any fixed number: whoever posts holds it shared, whoever closes a month alone.
    """
    CREATE TABLE accounting_months (
      month date PRIMARY KEY CHECK (extract(day FROM month) = 1),
      closed_at timestamptz NOT NULL,
      requested_by text NOT NULL,
      approved_by text NOT NULL CHECK (lower(approved_by) <> lower(requested_by)),
      trial_balance json NOT NULL
    )
    """,
    # One after the other, and never again open.
    """
    CREATE FUNCTION accounting_month_must_follow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_advisory_xact_lock(1634886514);
      IF NEW.month <> (SELECT coalesce(max(month) + interval '1 month', NEW.month) FROM accounting_months) THEN
        RAISE EXCEPTION 'month % does not follow the one that was closed last', NEW.month
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER accounting_month_must_follow BEFORE INSERT ON accounting_months
    FOR EACH ROW EXECUTE FUNCTION accounting_month_must_follow()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON accounting_months
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    # `accounting_at` is when it counts in the books; `late_for` is the closed month that it happened in.
    "ALTER TABLE ledger_transactions ADD COLUMN accounting_at timestamptz, ADD COLUMN late_for date",
    "ALTER TABLE ledger_transactions DISABLE TRIGGER append_only",
    "UPDATE ledger_transactions SET accounting_at = occurred_at",
    "ALTER TABLE ledger_transactions ENABLE TRIGGER append_only",
    "ALTER TABLE ledger_transactions ALTER COLUMN accounting_at SET NOT NULL",
    "CREATE INDEX ledger_transactions_by_accounting ON ledger_transactions (accounting_at)",
    """
    CREATE FUNCTION ledger_accounting_date() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      open_from timestamptz;
    BEGIN
      PERFORM pg_advisory_xact_lock_shared(1634886514);
      open_from := (SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM accounting_months);
      IF NEW.accounting_at IS NULL THEN
        NEW.accounting_at := greatest(NEW.occurred_at, open_from);
        IF NEW.accounting_at <> NEW.occurred_at THEN
          NEW.late_for := date_trunc('month', NEW.occurred_at AT TIME ZONE 'UTC');
        END IF;
      ELSIF NEW.accounting_at < open_from THEN
        RAISE EXCEPTION 'the books are closed up to %: nothing is posted at %', open_from, NEW.accounting_at
          USING ERRCODE = 'restrict_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER ledger_accounting_date BEFORE INSERT ON ledger_transactions
    FOR EACH ROW EXECUTE FUNCTION ledger_accounting_date()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
