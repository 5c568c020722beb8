"""Signing up for a plan on Stripe's page: the payment begins the subscription, and pays the invoice of its first period."""

from alembic import op

revision = "0111"
down_revision = "0110"
branch_labels = None
depends_on = None

STATEMENTS = (
    # `look_at` is when the invoice is tried next; null where none is waited for.
    """
    CREATE TABLE sign_ups (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      currency text NOT NULL,
      wish jsonb NOT NULL,
      amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
      tax_minor bigint NOT NULL,
      state text NOT NULL CHECK (state IN ('open', 'paid', 'settled', 'refused', 'expired', 'quarantined')),
      reason text,
      subscription text UNIQUE REFERENCES subscriptions,
      invoice text REFERENCES invoices,
      created_at timestamptz NOT NULL,
      look_at timestamptz CHECK ((look_at IS NOT NULL) = (state = 'paid')),
      CHECK ((subscription IS NOT NULL) = (state IN ('paid', 'settled'))),
      CHECK ((invoice IS NOT NULL) = (state = 'settled' AND amount_minor > 0))
    )
    """,
    "CREATE INDEX sign_ups_of_org ON sign_ups (org, id)",
    "CREATE INDEX sign_ups_to_settle ON sign_ups (look_at) WHERE look_at IS NOT NULL",
    # A payment for a sign-up has an invoice once there is one.
    """
    ALTER TABLE top_ups
      ADD COLUMN sign_up text UNIQUE REFERENCES sign_ups,
      DROP CONSTRAINT top_up_fills_a_wallet_or_pays_an_invoice,
      ADD CONSTRAINT top_up_fills_a_wallet_or_pays_an_invoice
        CHECK ((wallet IS NULL) <> (invoice IS NULL AND sign_up IS NULL)),
      DROP CONSTRAINT top_ups_way_check,
      ADD CONSTRAINT top_ups_way_check CHECK (way IN ('checkout', 'bank_transfer', 'card', 'auto', 'setup')),
      DROP CONSTRAINT top_ups_amount_minor_check,
      ADD CONSTRAINT top_ups_amount_minor_check CHECK (amount_minor > 0 OR (way = 'setup' AND amount_minor = 0))
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
