"""Organisations, projects, API keys; the outbox of what gateways must know; answers to repeated requests."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE organizations (
      id text PRIMARY KEY,
      name text NOT NULL,
      created_at timestamptz NOT NULL
    )
    """,
    "ALTER TABLE wallets ADD FOREIGN KEY (org) REFERENCES organizations (id)",
    """
    CREATE TABLE projects (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      name text NOT NULL,
      currency text NOT NULL,
      disposition text NOT NULL CHECK (disposition IN ('prepaid', 'payg')),
      wallet text NOT NULL,
      status text NOT NULL CHECK (status IN ('active', 'revoked')),
      models text[],
      limits jsonb NOT NULL,
      created_at timestamptz NOT NULL,
      FOREIGN KEY (wallet, currency) REFERENCES wallets (id, currency)
    )
    """,
    "CREATE INDEX projects_of_org ON projects (org, id)",
    # The secret itself is nowhere: its hash finds the key, its first characters show which one it was.
    """
    CREATE TABLE api_keys (
      id text PRIMARY KEY,
      project text NOT NULL REFERENCES projects,
      name text NOT NULL,
      secret_sha256 text NOT NULL UNIQUE CHECK (secret_sha256 ~ '^[0-9a-f]{64}$'),
      prefix text NOT NULL,
      status text NOT NULL CHECK (status IN ('active', 'revoked')),
      models text[],
      limits jsonb NOT NULL,
      expires_at timestamptz,
      created_at timestamptz NOT NULL,
      revoked_at timestamptz
    )
    """,
    "CREATE INDEX api_keys_of_project ON api_keys (project, id)",
    # One row a Valkey key, holding what must stand there: a later change replaces an earlier one that was never
    # pushed, and a cold Valkey is loaded from the same rows.
    "CREATE SEQUENCE record_versions",
    """
    CREATE TABLE outbox (
      key text PRIMARY KEY,
      version bigint NOT NULL,
      record text NOT NULL,
      live boolean NOT NULL,
      pushed_version bigint NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX outbox_to_push ON outbox (version) WHERE pushed_version < version",
    """
    CREATE TABLE idempotency_keys (
      scope text NOT NULL,
      key text NOT NULL,
      request_sha256 bytea NOT NULL,
      answer jsonb,
      created_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (scope, key)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
