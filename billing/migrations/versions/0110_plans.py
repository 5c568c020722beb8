"""Plans and subscriptions: versions that never change, what is subscribed to, each step of it, and what it allows."""

from alembic import op

revision = "0110"
down_revision = "0142"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE plans (
      id text PRIMARY KEY,
      code text NOT NULL,
      version integer NOT NULL CHECK (version > 0),
      definition jsonb NOT NULL,
      published_at timestamptz NOT NULL,
      UNIQUE (code, version)
    )
    """,
    # `due_at` is when time has something to do to it.
    """
    CREATE TABLE subscriptions (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      project text REFERENCES projects,
      wallet text REFERENCES wallets,
      plan text NOT NULL REFERENCES plans,
      seats integer NOT NULL CHECK (seats > 0),
      add_ons jsonb NOT NULL,
      state text NOT NULL
        CHECK (state IN ('scheduled', 'trialing', 'active', 'past_due', 'paused', 'cancelled')),
      starts_at timestamptz NOT NULL,
      anchor timestamptz NOT NULL,
      number integer NOT NULL CHECK (number >= 0),
      period_start timestamptz,
      period_end timestamptz CHECK (period_end > period_start),
      planned jsonb,
      version integer NOT NULL,
      created_at timestamptz NOT NULL,
      ended_at timestamptz,
      due_at timestamptz GENERATED ALWAYS AS (CASE state WHEN 'scheduled' THEN starts_at ELSE period_end END) STORED,
      CHECK ((period_start IS NULL) = (period_end IS NULL)),
      CHECK ((period_start IS NOT NULL) = (state IN ('trialing', 'active', 'past_due'))),
      CHECK ((ended_at IS NOT NULL) = (state = 'cancelled'))
    )
    """,
    "CREATE INDEX subscriptions_of_org ON subscriptions (org, id)",
    "CREATE INDEX subscriptions_of_plan ON subscriptions (plan)",
    "CREATE INDEX subscriptions_due ON subscriptions (due_at) WHERE due_at IS NOT NULL",
    # One plan serves a project at a time: its own, or else its organisation's.
    """
    CREATE UNIQUE INDEX one_subscription_of_a_project ON subscriptions (project)
    WHERE project IS NOT NULL AND state <> 'cancelled'
    """,
    """
    CREATE UNIQUE INDEX one_subscription_of_an_organization ON subscriptions (org)
    WHERE project IS NULL AND state <> 'cancelled'
    """,
    # A version is reached once, so whatever is done to a subscription is done once.
    """
    CREATE TABLE subscription_steps (
      subscription text NOT NULL REFERENCES subscriptions,
      version integer NOT NULL,
      event text NOT NULL,
      at timestamptz NOT NULL,
      plan text NOT NULL REFERENCES plans,
      state text NOT NULL,
      lines jsonb NOT NULL,
      PRIMARY KEY (subscription, version)
    )
    """,
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in ("plans", "subscription_steps")
    ),
    """
    CREATE FUNCTION webhook_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(s.org, 'subscription.' || NEW.event, NEW.at, jsonb_build_object(
        'organization', s.org, 'project', s.project, 'subscription', s.id, 'plan', NEW.plan, 'state', NEW.state))
      FROM subscriptions s WHERE s.id = NEW.subscription;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_subscription AFTER INSERT ON subscription_steps
    FOR EACH ROW EXECUTE FUNCTION webhook_subscription()
    """,
    # What plans allow whom, as gateways are told of it beside what the seller has set.
    """
    CREATE TABLE plan_entitlements (
      subscription text PRIMARY KEY REFERENCES subscriptions,
      org text NOT NULL REFERENCES organizations,
      project text UNIQUE REFERENCES projects,
      limits jsonb NOT NULL,
      models text[],
      pays_for_requests boolean NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX plan_entitlement_of_an_organization ON plan_entitlements (org) WHERE project IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
