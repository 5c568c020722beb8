"""Engines that tell nothing: the look at a day says how many requests there was nothing to hold against."""

from alembic import op

revision = "0140"
down_revision = "0150"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE reconciliation_looks
      ADD COLUMN unwitnessed_requests bigint NOT NULL DEFAULT 0,
      DROP CONSTRAINT reconciliation_looks_status_check,
      ADD CONSTRAINT reconciliation_looks_status_check
        CHECK (status IN ('green', 'unwitnessed', 'pending', 'red'))
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
