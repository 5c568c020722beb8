"""Service accounts, which own keys."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE service_accounts (
      id text PRIMARY KEY,
      project text NOT NULL REFERENCES projects,
      name text NOT NULL,
      status text NOT NULL CHECK (status IN ('active', 'disabled')),
      created_at timestamptz NOT NULL,
      disabled_at timestamptz CHECK ((disabled_at IS NOT NULL) = (status = 'disabled'))
    )
    """,
    "CREATE INDEX service_accounts_of_project ON service_accounts (project, id)",
    "ALTER TABLE api_keys ADD COLUMN service_account text REFERENCES service_accounts",
    "CREATE INDEX api_keys_of_service_account ON api_keys (service_account) WHERE service_account IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
