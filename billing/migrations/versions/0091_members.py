"""Members with roles and tokens of their own, and the audit log of what everybody changed."""

from alembic import op

revision = "0091"
down_revision = "0090"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Without an organisation it is one of the seller's staff.
    """
    CREATE TABLE members (
      id text PRIMARY KEY,
      org text REFERENCES organizations,
      name text NOT NULL,
      role text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'finance', 'read-only')),
      created_at timestamptz NOT NULL,
      removed_at timestamptz
    )
    """,
    "CREATE INDEX members_of_org ON members (org, id)",
    # The secret itself is nowhere: its hash finds the token, its first characters show which one it was.
    """
    CREATE TABLE member_tokens (
      id text PRIMARY KEY,
      member text NOT NULL REFERENCES members,
      name text NOT NULL,
      secret_sha256 text NOT NULL UNIQUE CHECK (secret_sha256 ~ '^[0-9a-f]{64}$'),
      prefix text NOT NULL,
      issued_by text NOT NULL,
      created_at timestamptz NOT NULL,
      expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
      revoked_at timestamptz
    )
    """,
    "CREATE INDEX member_tokens_of_member ON member_tokens (member, id)",
    # No foreign keys: what was done stays told whatever becomes of whom and what it names.
    """
    CREATE TABLE audit_log (
      id text PRIMARY KEY,
      at timestamptz NOT NULL,
      actor_side text NOT NULL CHECK (actor_side IN ('seller', 'organization', 'key')),
      actor text NOT NULL,
      actor_name text NOT NULL,
      role text,
      token_prefix text NOT NULL,
      operation text NOT NULL,
      org text,
      objects text[] NOT NULL,
      changes jsonb NOT NULL,
      outcome text NOT NULL CHECK (outcome IN ('done', 'refused')),
      code text CHECK ((code IS NOT NULL) = (outcome = 'refused')),
      address text,
      request_id text NOT NULL,
      idempotency_key text
    )
    """,
    "CREATE INDEX audit_log_of_org ON audit_log (org, id)",
    "CREATE INDEX audit_log_of_actor ON audit_log (actor, id)",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
