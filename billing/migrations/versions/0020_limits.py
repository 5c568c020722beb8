"""Limits of organisations, changes of keys and projects by version, rotated secrets."""

from alembic import op

revision = "0020"
down_revision = "0012"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE organizations ADD COLUMN limits jsonb NOT NULL DEFAULT '[]', ADD COLUMN version bigint NOT NULL DEFAULT 1",
    "ALTER TABLE projects ADD COLUMN version bigint NOT NULL DEFAULT 1",
    "ALTER TABLE api_keys ADD COLUMN version bigint NOT NULL DEFAULT 1",
    # The secret before a key's last rotation, while it may still be used.
    """
    CREATE TABLE retired_secrets (
      key text PRIMARY KEY REFERENCES api_keys,
      secret_sha256 text NOT NULL UNIQUE CHECK (secret_sha256 ~ '^[0-9a-f]{64}$'),
      expires_at timestamptz NOT NULL
    )
    """,
    # What a cold Valkey's windows are filled from.
    "CREATE INDEX usage_events_of_key ON usage_events (key, received_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
