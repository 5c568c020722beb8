"""Charges: what a customer owes for a time rather than for tokens, and its recognition by the second.

A charge is on one invoice line at most, ever. What is deferred of it can change after it was invoiced: by the tax that
its price holds, and by credit notes.
"""

from alembic import op

revision = "0094"
down_revision = "0093"
branch_labels = None
depends_on = None

ACCOUNTS = """
    'receivable', 'wallet_paid', 'wallet_promo', 'overdraft', 'commitment', 'unbilled', 'outcome_reserved',
    'wallet_applied', 'refund_liability', 'cash_clearing', 'psp_fees', 'revenue_tokens', 'revenue_outcomes',
    'revenue_subscriptions', 'revenue_commitments', 'revenue_gpu_time', 'service_credits',
    'deferred', 'breakage', 'promo_contra', 'tax_payable', 'bad_debt', 'rounding', 'fx', 'manual_grants'
"""

STATEMENTS = (
    "ALTER TABLE ledger_postings DROP CONSTRAINT ledger_postings_kind_check",
    f"ALTER TABLE ledger_postings ADD CONSTRAINT ledger_postings_kind_check CHECK (kind IN ({ACCOUNTS}))",
    """
    CREATE TABLE charges (
      id text PRIMARY KEY,
      reference text NOT NULL UNIQUE,
      org text NOT NULL REFERENCES organizations,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      project text REFERENCES projects,
      kind text NOT NULL CHECK (kind IN ('plan', 'seat', 'add_on', 'fee', 'commitment', 'true_up', 'minimum',
                                         'gpu_time', 'service_credit')),
      recognition text NOT NULL CHECK (recognition IN ('at_once', 'over_time', 'elsewhere')),
      label text NOT NULL CHECK (label <> ''),
      quantity bigint NOT NULL,
      unit text NOT NULL,
      unit_price numeric(30, 12),
      per bigint NOT NULL CHECK (per > 0),
      amount_nanos numeric(38, 0) NOT NULL CHECK (amount_nanos <> 0),
      span_start timestamptz NOT NULL,
      span_end timestamptz NOT NULL CHECK (span_end > span_start),
      happened_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX charges_of_org ON charges (org, currency, happened_at)",
    "CREATE INDEX charges_to_recognise ON charges (span_start) WHERE recognition = 'over_time'",
    "ALTER TABLE invoice_lines DROP CONSTRAINT invoice_lines_kind_check",
    """
    ALTER TABLE invoice_lines
      ADD COLUMN charge text REFERENCES charges,
      ADD CONSTRAINT invoice_lines_kind_check CHECK (kind IN ('tokens', 'adjustment', 'outcome', 'charge')),
      ADD CONSTRAINT charge_line_names_its_charge CHECK ((kind = 'charge') = (charge IS NOT NULL))
    """,
    "CREATE UNIQUE INDEX invoice_lines_of_charge ON invoice_lines (charge) WHERE charge IS NOT NULL",
    # What changed of the deferred amount after the charge: by an invoice's tax or a credit note, which is the source.
    """
    CREATE TABLE charge_deferrals (
      charge text NOT NULL REFERENCES charges,
      source text NOT NULL,
      nanos numeric(38, 0) NOT NULL CHECK (nanos <> 0),
      at timestamptz NOT NULL,
      PRIMARY KEY (charge, source)
    )
    """,
    """
    CREATE TABLE charge_recognitions (
      charge text NOT NULL REFERENCES charges,
      month date NOT NULL CHECK (extract(day FROM month) = 1),
      nanos numeric(38, 0) NOT NULL,
      PRIMARY KEY (charge, month)
    )
    """,
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in ("charges", "charge_deferrals", "charge_recognitions")
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
