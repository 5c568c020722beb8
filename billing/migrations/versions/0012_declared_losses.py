"""Engine requests that no event will ever come for, declared lost by two people and charged to nobody."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE declared_losses (
      replica text NOT NULL,
      attempt text NOT NULL,
      reason text NOT NULL,
      declared_by text NOT NULL,
      confirmed_by text NOT NULL CHECK (confirmed_by <> declared_by),
      declared_at timestamptz NOT NULL,
      PRIMARY KEY (replica, attempt),
      FOREIGN KEY (replica, attempt) REFERENCES engine_records (replica, attempt)
    )
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON declared_losses
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
