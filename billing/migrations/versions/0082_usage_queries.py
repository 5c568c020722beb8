"""Sessions by project and time, and events by time: what a report of some days reads lies side by side, and new rows come at its end.

Whose an organisation's sessions are follows from its projects, so that no index by organisation is kept for it.
"""

from alembic import op

revision = "0082"
down_revision = "0081"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE usage_rollups_by_session
      DROP CONSTRAINT usage_rollups_by_session_pkey,
      ADD PRIMARY KEY (project, hour, session, task, key, wallet, model, price_book, disposition, service_tier)
    """,
    "DROP INDEX usage_rollups_by_session_of_org",
    # Events come in the order of time, more or less, so blocks of them tell what a day's reconciliation has to read.
    "CREATE INDEX usage_events_by_time ON usage_events USING brin (received_at) WITH (autosummarize = on)",
    "CREATE INDEX usage_rollups_by_session_of_session ON usage_rollups_by_session (session, hour) WHERE session <> ''",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
