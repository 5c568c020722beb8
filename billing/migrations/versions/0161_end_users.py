"""Rollups by session tell end users apart, by the hashes that usage events carry.

What was rolled up before has none: a charge of several requests can't be told apart afterwards.
"""

from alembic import op

revision = "0161"
down_revision = "0160"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE usage_rollups_by_session
      ADD COLUMN end_user text NOT NULL DEFAULT '',
      DROP CONSTRAINT usage_rollups_by_session_pkey,
      ADD PRIMARY KEY (
        project, hour, session, task, end_user, key, wallet, model, price_book, disposition, service_tier)
    """,
    """
    CREATE INDEX usage_rollups_by_session_of_end_user ON usage_rollups_by_session (end_user, hour)
    WHERE end_user <> ''
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
