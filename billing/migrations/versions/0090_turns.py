"""Whose turn comes when requests wait, and what may answer instead of the model asked for."""

from alembic import op

revision = "0090"
down_revision = "0083"
branch_labels = None
depends_on = None

# The defaults are how everybody was treated before.
STATEMENTS = (
    "ALTER TABLE organizations ADD COLUMN weight integer NOT NULL DEFAULT 1 CHECK (weight >= 1)",
    "ALTER TABLE projects ADD COLUMN fallback_models text[] NOT NULL DEFAULT '{}'",
    """
    ALTER TABLE api_keys
      ADD COLUMN priority text NOT NULL DEFAULT 'interactive' CHECK (priority IN ('interactive', 'batch')),
      ADD COLUMN fallback_models text[]
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
