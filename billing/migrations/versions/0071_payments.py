"""Payments through Stripe: top-ups, saved cards, refunds, disputes, and what Stripe told of them."""

from alembic import op

revision = "0071"
down_revision = "0070"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE stripe_customers (
      org text PRIMARY KEY REFERENCES organizations,
      customer text NOT NULL UNIQUE,
      default_card text
    )
    """,
    # `look_at` is when Stripe is asked next; null means that there is nothing more to learn.
    """
    CREATE TABLE top_ups (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      wallet text,
      invoice text REFERENCES invoices,
      currency text NOT NULL,
      amount_minor bigint NOT NULL CHECK (amount_minor > 0),
      way text NOT NULL CHECK (way IN ('checkout', 'bank_transfer', 'card', 'auto')),
      card text,
      save_card boolean NOT NULL,
      state text NOT NULL CHECK (state IN ('creating', 'open', 'paid', 'expired', 'refused', 'quarantined')),
      session text UNIQUE,
      url text,
      payment text UNIQUE,
      lot text UNIQUE REFERENCES credit_lots,
      reason text,
      settled boolean NOT NULL DEFAULT false,
      created_at timestamptz NOT NULL,
      expires_at timestamptz NOT NULL,
      closed_at timestamptz,
      look_at timestamptz,
      FOREIGN KEY (wallet, currency) REFERENCES wallets (id, currency),
      CONSTRAINT top_up_of_a_card CHECK ((card IS NOT NULL) = (way IN ('card', 'auto'))),
      CONSTRAINT top_up_fills_a_wallet_or_pays_an_invoice CHECK ((wallet IS NULL) <> (invoice IS NULL)),
      CONSTRAINT top_up_paid_is_granted CHECK ((state = 'paid' AND wallet IS NOT NULL) = (lot IS NOT NULL)),
      CONSTRAINT top_up_ended CHECK ((state IN ('creating', 'open')) = (closed_at IS NULL))
    )
    """,
    "CREATE INDEX top_ups_of_org ON top_ups (org, id)",
    "CREATE INDEX top_ups_waiting ON top_ups (org) WHERE state IN ('creating', 'open')",
    "CREATE INDEX top_ups_to_look_at ON top_ups (look_at) WHERE look_at IS NOT NULL",
    "CREATE INDEX top_ups_by_themselves ON top_ups (wallet, created_at) WHERE way = 'auto'",
    "CREATE INDEX top_ups_of_invoice ON top_ups (invoice) WHERE invoice IS NOT NULL",
    # One payment of an invoice at a time: two would pay it twice.
    """
    CREATE UNIQUE INDEX one_payment_of_an_invoice_waits ON top_ups (invoice)
    WHERE invoice IS NOT NULL AND state IN ('creating', 'open')
    """,
    # Whoever goes astray: a wallet is never charged twice at once by itself.
    """
    CREATE UNIQUE INDEX one_top_up_by_itself_waits ON top_ups (wallet)
    WHERE way = 'auto' AND state IN ('creating', 'open')
    """,
    """
    CREATE TABLE auto_top_ups (
      wallet text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      currency text NOT NULL,
      threshold_nanos numeric(38, 0) NOT NULL CHECK (threshold_nanos > 0),
      amount_minor bigint NOT NULL CHECK (amount_minor > 0),
      card text NOT NULL,
      monthly_ceiling_minor bigint NOT NULL,
      state text NOT NULL CHECK (state IN ('on', 'stopped')),
      stopped_reason text,
      ceiling_told_at timestamptz,
      FOREIGN KEY (wallet, currency) REFERENCES wallets (id, currency),
      CHECK (monthly_ceiling_minor >= amount_minor),
      CHECK ((state = 'stopped') = (stopped_reason IS NOT NULL))
    )
    """,
    """
    CREATE TABLE top_up_refunds (
      id text PRIMARY KEY,
      top_up text NOT NULL REFERENCES top_ups,
      amount_minor bigint NOT NULL CHECK (amount_minor > 0),
      state text NOT NULL CHECK (state IN ('pending', 'paid', 'failed')),
      refund text UNIQUE,
      created_at timestamptz NOT NULL,
      look_at timestamptz
    )
    """,
    "CREATE INDEX top_up_refunds_of_top_up ON top_up_refunds (top_up)",
    "CREATE INDEX top_up_refunds_to_look_at ON top_up_refunds (look_at) WHERE look_at IS NOT NULL",
    """
    CREATE TABLE disputes (
      id text PRIMARY KEY,
      state text NOT NULL DEFAULT 'heard'
        CHECK (state IN ('heard', 'open', 'taken', 'restored', 'lost', 'closed', 'foreign')),
      top_up text REFERENCES top_ups,
      org text REFERENCES organizations,
      amount_minor bigint,
      currency text,
      reason text,
      heard_at timestamptz NOT NULL,
      look_at timestamptz
    )
    """,
    "CREATE INDEX disputes_of_org ON disputes (org, id)",
    "CREATE INDEX disputes_to_look_at ON disputes (look_at) WHERE look_at IS NOT NULL",
    # Stripe's balance transactions that are in our books: `moved` is what we posted, the rest is Stripe's own account.
    """
    CREATE TABLE stripe_settlements (
      id text PRIMARY KEY,
      top_up text NOT NULL REFERENCES top_ups,
      org text NOT NULL,
      moved_minor bigint NOT NULL,
      moved_currency text NOT NULL,
      currency text NOT NULL,
      amount_minor bigint NOT NULL,
      fee_minor bigint NOT NULL,
      recorded_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX stripe_settlements_of_org ON stripe_settlements (org)",
    # Of each event that it came, and of what it told; never its contents.
    """
    CREATE TABLE stripe_events (
      id text PRIMARY KEY,
      kind text NOT NULL,
      about text NOT NULL,
      known boolean NOT NULL,
      times integer NOT NULL DEFAULT 1,
      received_at timestamptz NOT NULL
    )
    """,
    # Each comparison of our books with Stripe's, and where the two disagreed.
    """
    CREATE TABLE payment_reconciliations (
      as_of timestamptz PRIMARY KEY,
      since timestamptz NOT NULL,
      matched integer NOT NULL,
      pending integer NOT NULL,
      returned integer NOT NULL,
      others jsonb NOT NULL,
      checks jsonb NOT NULL
    )
    """,
    """
    CREATE TABLE payment_differences (
      id text PRIMARY KEY,
      reason text NOT NULL CHECK (reason IN ('unbooked', 'unknown_to_stripe', 'amount_differs')),
      payment text,
      org text REFERENCES organizations,
      amount_minor bigint NOT NULL,
      currency text NOT NULL,
      booked_at timestamptz NOT NULL,
      found_at timestamptz NOT NULL,
      resolved_at timestamptz
    )
    """,
    "CREATE INDEX payment_differences_open ON payment_differences (org, booked_at) WHERE resolved_at IS NULL",
    "ALTER TABLE notices DROP CONSTRAINT notices_kind_check",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stripe_settlements
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
