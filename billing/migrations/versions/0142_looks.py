"""A look says how many culprits it saw of each kind: what metrics tell."""

from alembic import op

revision = "0142"
down_revision = "0141"
branch_labels = None
depends_on = None

STATEMENTS = ("ALTER TABLE reconciliation_looks ADD COLUMN reasons jsonb NOT NULL DEFAULT '{}'",)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
