"""Reconciliation as it goes on: each stage's last look at each day, and what two people have settled."""

from alembic import op

revision = "0083"
down_revision = "0082"
branch_labels = None
depends_on = None

STATEMENTS = (
    # `day` is null for a stage that looks at the books as a whole.
    """
    CREATE TABLE reconciliation_looks (
      stage text NOT NULL,
      day date,
      as_of timestamptz NOT NULL,
      status text NOT NULL CHECK (status IN ('green', 'pending', 'red')),
      sides jsonb NOT NULL,
      culprits jsonb NOT NULL,
      culprits_count bigint NOT NULL,
      UNIQUE NULLS NOT DISTINCT (stage, day)
    )
    """,
    # An event that came twice with other content, or could not be stored: two people have looked, and what the
    # books have stays. What comes after is a new matter.
    """
    CREATE TABLE declared_settled (
      kind text NOT NULL CHECK (kind IN ('conflict', 'quarantined')),
      id text NOT NULL,
      reason text NOT NULL,
      declared_by text NOT NULL,
      confirmed_by text NOT NULL CHECK (confirmed_by <> declared_by),
      declared_at timestamptz NOT NULL,
      PRIMARY KEY (kind, id, declared_at)
    )
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON declared_settled
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
