"""Webhooks out: endpoints, what happened, and what is still to be told to whom.

What happened is noted by triggers, so that no way to it can forget to tell, in the transaction that makes it happen.
"""

from alembic import op

revision = "0093"
down_revision = "0092"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Without an organisation it is the seller's, and hears of all of them.
    """
    CREATE TABLE webhook_endpoints (
      id text PRIMARY KEY,
      org text REFERENCES organizations,
      url text NOT NULL,
      description text NOT NULL,
      events text[],
      status text NOT NULL DEFAULT 'enabled' CHECK (status IN ('enabled', 'disabled')),
      disabled_reason text CHECK ((disabled_reason IS NOT NULL) = (status = 'disabled')),
      secret_number integer NOT NULL DEFAULT 1,
      old_secret_until timestamptz,
      failing_since timestamptz,
      created_at timestamptz NOT NULL,
      removed_at timestamptz
    )
    """,
    "CREATE INDEX webhook_endpoints_of_org ON webhook_endpoints (org, id)",
    """
    CREATE TABLE webhook_messages (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      type text NOT NULL,
      at timestamptz NOT NULL,
      data jsonb NOT NULL
    )
    """,
    "CREATE INDEX webhook_messages_by_time ON webhook_messages (at)",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON webhook_messages
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    # `due_at` is null once it is delivered or given up. A claim moves it on, so that it comes again if its worker died.
    """
    CREATE TABLE webhook_deliveries (
      endpoint text NOT NULL REFERENCES webhook_endpoints,
      message text NOT NULL REFERENCES webhook_messages ON DELETE CASCADE,
      status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'given_up')),
      attempts integer NOT NULL DEFAULT 0,
      since timestamptz NOT NULL,
      due_at timestamptz CHECK ((due_at IS NOT NULL) = (status = 'pending')),
      PRIMARY KEY (endpoint, message)
    )
    """,
    "CREATE INDEX webhook_deliveries_of_message ON webhook_deliveries (message)",
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint, due_at) WHERE status = 'pending'",
    """
    CREATE TABLE webhook_attempts (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      endpoint text NOT NULL,
      message text NOT NULL,
      at timestamptz NOT NULL,
      response_status integer,
      error text,
      seconds double precision NOT NULL,
      FOREIGN KEY (endpoint, message) REFERENCES webhook_deliveries ON DELETE CASCADE
    )
    """,
    "CREATE INDEX webhook_attempts_of_delivery ON webhook_attempts (endpoint, message, id)",
    """
    CREATE FUNCTION webhook_note(of_org text, of_type text, of_at timestamptz, of_data jsonb) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE
      new_id text := 'msg_' || lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
                     || left(replace(gen_random_uuid()::text, '-', ''), 20);
    BEGIN
      INSERT INTO webhook_messages (id, org, type, at, data) VALUES (new_id, of_org, of_type, of_at, of_data);
      INSERT INTO webhook_deliveries (endpoint, message, since, due_at)
      SELECT e.id, new_id, of_at, of_at FROM webhook_endpoints e
      WHERE (e.org = of_org OR e.org IS NULL) AND e.removed_at IS NULL AND e.status = 'enabled'
        AND (e.events IS NULL OR of_type = ANY(e.events));
    END $$
    """,
    # Also in the code's webhooks/event.py, which names the types; a test holds both together.
    """
    CREATE FUNCTION webhook_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(NEW.org, 'invoice.finalized', NEW.issued_at, jsonb_build_object(
        'organization', NEW.org, 'invoice', NEW.id, 'number', NEW.number, 'currency', NEW.currency));
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_invoice AFTER INSERT ON invoices
    FOR EACH ROW EXECUTE FUNCTION webhook_invoice()
    """,
    """
    CREATE FUNCTION webhook_notice() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(
        NEW.org, CASE NEW.kind WHEN 'balance_low' THEN 'credit.low' ELSE 'notice.' || NEW.kind END, NEW.at,
        NEW.content || jsonb_build_object('organization', NEW.org, 'notice', NEW.id));
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_notice AFTER INSERT ON notices
    FOR EACH ROW EXECUTE FUNCTION webhook_notice()
    """,
    """
    CREATE FUNCTION webhook_key() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(p.org, 'key.revoked', NEW.revoked_at, jsonb_build_object(
        'organization', p.org, 'project', p.id, 'key', NEW.id, 'prefix', NEW.prefix))
      FROM projects p WHERE p.id = NEW.project;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_key AFTER UPDATE ON api_keys
    FOR EACH ROW WHEN (OLD.status = 'active' AND NEW.status = 'revoked') EXECUTE FUNCTION webhook_key()
    """,
    """
    CREATE FUNCTION webhook_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(o.org, 'outcome.' || NEW.status, NEW.at, jsonb_build_object(
        'organization', o.org, 'project', o.project, 'outcome', o.id, 'task', o.task, 'outcome_type', o.outcome_type))
      FROM outcomes o WHERE o.id = NEW.outcome;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_outcome AFTER INSERT ON outcome_history
    FOR EACH ROW WHEN (NEW.status IN ('verified', 'accepted', 'rejected', 'expired', 'withdrawn'))
    EXECUTE FUNCTION webhook_outcome()
    """,
    # Rooms have their own kinds of notices.
    "ALTER TABLE notices DROP CONSTRAINT IF EXISTS notices_kind_check",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
