"""What whoever reckoned an invoice's tax still has to be told: that the invoice is final, and what was credited of it."""

from alembic import op

revision = "0131"
down_revision = "0130"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Noted in the transaction that issues the invoice or the credit note. `look_at` is null once nothing is left to do.
    """
    CREATE TABLE tax_filings (
      id text PRIMARY KEY,
      invoice text NOT NULL REFERENCES invoices,
      kind text NOT NULL CHECK (kind IN ('sale', 'reversal')),
      calculation text CHECK ((calculation IS NOT NULL) = (kind = 'sale')),
      net_minor bigint NOT NULL,
      tax_minor bigint NOT NULL,
      state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'filed', 'refused')),
      filed_as text CHECK ((filed_as IS NOT NULL) = (state = 'filed')),
      line_item text,
      reason text CHECK ((reason IS NOT NULL) = (state = 'refused')),
      created_at timestamptz NOT NULL,
      look_at timestamptz CHECK ((look_at IS NOT NULL) = (state = 'pending')),
      CHECK ((kind = 'sale') = (id = invoice))
    )
    """,
    "CREATE INDEX tax_filings_waiting ON tax_filings (look_at) WHERE state = 'pending'",
    "CREATE INDEX tax_filings_of_invoice ON tax_filings (invoice)",
    # What would not be taken can be told by hand, and two people then settle it.
    """
    ALTER TABLE declared_settled
      DROP CONSTRAINT declared_settled_kind_check,
      ADD CONSTRAINT declared_settled_kind_check CHECK (kind IN ('conflict', 'quarantined', 'tax_not_told'))
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
