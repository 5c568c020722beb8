"""Dunning: invoices that leave something to pay, and how far each has come."""

from alembic import op

revision = "0072"
down_revision = "0071"
branch_labels = None
depends_on = None

STATEMENTS = (
    # `step` is how many steps of the schedule are done; `next_at` null means that there is nothing more to do.
    """
    CREATE TABLE dunnings (
      invoice text PRIMARY KEY REFERENCES invoices,
      org text NOT NULL REFERENCES organizations,
      due_at timestamptz NOT NULL,
      state text NOT NULL CHECK (state IN ('running', 'paused', 'paid', 'stopped')),
      step integer NOT NULL DEFAULT 0 CHECK (step >= 0),
      next_at timestamptz,
      CHECK ((state IN ('paid', 'stopped')) = (next_at IS NULL))
    )
    """,
    # What was issued before is left to whoever collected it until now.
    """
    INSERT INTO dunnings (invoice, org, due_at, state)
    SELECT id, org, issued_at, 'stopped' FROM invoices WHERE due_minor > 0
    """,
    "CREATE INDEX dunnings_next ON dunnings (next_at) WHERE next_at IS NOT NULL",
    "CREATE INDEX dunnings_of_org ON dunnings (org, invoice)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
