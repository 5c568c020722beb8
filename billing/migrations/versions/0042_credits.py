"""Credit for one model, where each grant came from, and wallets that say when they run low."""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE credit_lots
      ADD COLUMN scope_model text,
      ADD COLUMN source text NOT NULL DEFAULT 'manual' CHECK (source IN ('cash', 'manual')),
      ADD COLUMN reason text NOT NULL DEFAULT ''
    """,
    """
    UPDATE credit_lots l SET source = coalesce(t.memo ->> 'source', 'manual'), reason = coalesce(t.memo ->> 'reason', '')
    FROM ledger_transactions t WHERE t.key = 'grant:' || l.id
    """,
    "CREATE INDEX credit_lots_of_wallet_by_id ON credit_lots (wallet, id)",
    # Which credit every project of a wallet may spend is asked with each push of its balance.
    "CREATE INDEX projects_of_wallet ON projects (wallet)",
    # `alerted` is whether the balance was below when last looked at: each fall below is told once.
    """
    ALTER TABLE wallets
      ADD COLUMN alert_below_nanos numeric(38, 0) CHECK (alert_below_nanos > 0),
      ADD COLUMN alerted boolean NOT NULL DEFAULT false
    """,
    "CREATE INDEX wallets_with_alert ON wallets (id) WHERE alert_below_nanos IS NOT NULL",
    # What an organisation must be told of, written in the transaction that makes it true.
    """
    CREATE TABLE notices (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      kind text NOT NULL CHECK (kind IN ('balance_low')),
      at timestamptz NOT NULL,
      content jsonb NOT NULL
    )
    """,
    "CREATE INDEX notices_of_org ON notices (org, id)",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON notices
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
