"""Organisations whose service is paused."""

from alembic import op

revision = "0070"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE organizations ADD COLUMN paused boolean NOT NULL DEFAULT false")
