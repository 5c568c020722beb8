"""Four eyes: from which amount on a second member must agree, and what waits for that."""

from alembic import op

revision = "0092"
down_revision = "0091"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE approval_bounds (
      operation text NOT NULL,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      above_nanos numeric(38, 0) NOT NULL CHECK (above_nanos >= 0),
      PRIMARY KEY (operation, currency)
    )
    """,
    # `request` is what was asked for, as its route took it: the same is done once a second member agrees.
    """
    CREATE TABLE approvals (
      id text PRIMARY KEY,
      operation text NOT NULL,
      org text NOT NULL REFERENCES organizations,
      subject text NOT NULL,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      amount_nanos numeric(38, 0) NOT NULL CHECK (amount_nanos > 0),
      request jsonb NOT NULL,
      reason text NOT NULL,
      requested_by text NOT NULL,
      requested_at timestamptz NOT NULL,
      expires_at timestamptz NOT NULL,
      status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'refused')),
      decided_by text,
      decided_at timestamptz,
      result jsonb,
      CHECK ((status = 'pending') = (decided_by IS NULL) AND (decided_by IS NULL) = (decided_at IS NULL)),
      CHECK (status <> 'approved' OR (decided_by <> requested_by AND decided_at < expires_at AND result IS NOT NULL))
    )
    """,
    "CREATE INDEX approvals_pending ON approvals (id) WHERE status = 'pending'",
    # Decided once, and nothing else of it ever changes.
    """
    CREATE FUNCTION approval_is_decided_once() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF OLD.status <> 'pending'
         OR (NEW.id, NEW.operation, NEW.org, NEW.subject, NEW.currency, NEW.amount_nanos, NEW.request, NEW.reason,
             NEW.requested_by, NEW.requested_at, NEW.expires_at)
            IS DISTINCT FROM
            (OLD.id, OLD.operation, OLD.org, OLD.subject, OLD.currency, OLD.amount_nanos, OLD.request, OLD.reason,
             OLD.requested_by, OLD.requested_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'approval % is decided once and changed in nothing else', OLD.id
          USING ERRCODE = 'restrict_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER approval_is_decided_once BEFORE UPDATE ON approvals
    FOR EACH ROW EXECUTE FUNCTION approval_is_decided_once()
    """,
    """
    CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON approvals
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
