"""Whose an invoice's lines and portions are, checked once a statement and not once a line."""

from alembic import op

revision = "0150"
down_revision = "0131"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Invoices and outcome types are append-only: what was there when a line came is there for good.
    """
    CREATE OR REPLACE FUNCTION invoice_takes_no_more() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (SELECT 1 FROM (SELECT DISTINCT invoice FROM fresh) AS f
                 WHERE NOT EXISTS (SELECT 1 FROM invoices i WHERE i.id = f.invoice)) THEN
        RAISE EXCEPTION '% names an invoice that is not there', TG_TABLE_NAME
          USING ERRCODE = 'foreign_key_violation';
      END IF;
      IF EXISTS (SELECT 1 FROM (SELECT DISTINCT invoice FROM fresh) AS f JOIN invoices i ON i.id = f.invoice
                 WHERE i.issued_in <> pg_current_xact_id()) THEN
        RAISE EXCEPTION 'an invoice that stands takes no more of %', TG_TABLE_NAME
          USING ERRCODE = 'restrict_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    "ALTER TABLE invoice_lines DROP CONSTRAINT invoice_lines_invoice_fkey",
    "ALTER TABLE invoice_portions DROP CONSTRAINT invoice_portions_invoice_fkey",
    # Each reconciliation asks for them, and of most organisations there are none.
    "CREATE INDEX rated_usage_closed ON rated_usage (org, period) WHERE closed",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
