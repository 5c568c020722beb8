"""Invoices: numbered without gaps, over periods without gaps, and never changed once they are there."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The legal entity that invoices; its row is locked while a number is given.
    """
    CREATE TABLE sellers (
      id text PRIMARY KEY,
      name text NOT NULL,
      address text NOT NULL,
      tax_id text NOT NULL,
      email text NOT NULL,
      number_prefix text NOT NULL UNIQUE CHECK (number_prefix ~ '^[A-Z][A-Z0-9]{0,9}$')
    )
    """,
    """
    INSERT INTO sellers (id, name, address, tax_id, email, number_prefix)
    VALUES ('default', 'Headrace', '', '', '', 'HR')
    """,
    """
    CREATE TABLE invoices (
      id text PRIMARY KEY,
      seller text NOT NULL REFERENCES sellers,
      sequence bigint NOT NULL CHECK (sequence > 0),
      number text NOT NULL UNIQUE,
      org text NOT NULL REFERENCES organizations,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      period_start timestamptz NOT NULL,
      period_end timestamptz NOT NULL CHECK (period_end > period_start),
      issued_at timestamptz NOT NULL,
      total_minor bigint NOT NULL,
      applied_minor bigint NOT NULL,
      due_minor bigint NOT NULL CHECK (due_minor = total_minor - applied_minor),
      exact_nanos numeric(38, 0) NOT NULL,
      applied_nanos numeric(38, 0) NOT NULL,
      document json NOT NULL,
      UNIQUE (seller, sequence),
      UNIQUE (org, currency, period_start)
    )
    """,
    """
    CREATE TABLE invoice_lines (
      invoice text NOT NULL REFERENCES invoices,
      position integer NOT NULL CHECK (position > 0),
      kind text NOT NULL CHECK (kind IN ('tokens', 'adjustment', 'outcome')),
      quantity bigint NOT NULL,
      amount_minor bigint NOT NULL,
      exact_nanos numeric(38, 0) NOT NULL,
      prepaid boolean NOT NULL,
      project text,
      model text,
      price_book text,
      token_class text,
      price_per_million numeric(30, 12),
      outcome_type text REFERENCES outcome_types,
      accepted_as text,
      PRIMARY KEY (invoice, position)
    )
    """,
    # What each invoice took out of `unbilled`, by the keys that the ledger rates by: the next one begins there.
    """
    CREATE TABLE invoice_portions (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      invoice text NOT NULL REFERENCES invoices,
      org text NOT NULL,
      currency text NOT NULL,
      month date NOT NULL,
      project text NOT NULL,
      wallet text NOT NULL,
      price_book text NOT NULL,
      model text NOT NULL,
      disposition text NOT NULL,
      token_class text NOT NULL,
      span_start timestamptz NOT NULL,
      span_end timestamptz NOT NULL,
      tokens bigint NOT NULL CHECK (tokens <> 0),
      nanos numeric(38, 0) NOT NULL
    )
    """,
    "CREATE INDEX invoice_portions_of_org ON invoice_portions (org, currency)",
    "ALTER TABLE outcomes ADD FOREIGN KEY (invoice) REFERENCES invoices (id)",
    """
    ALTER TABLE outcomes ADD CONSTRAINT invoiced_outcome_names_its_invoice
    CHECK (status NOT IN ('invoiced', 'settled') OR invoice IS NOT NULL)
    """,
    """
    CREATE FUNCTION invoice_must_follow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.sequence <> 1 + (SELECT coalesce(max(sequence), 0) FROM invoices WHERE seller = NEW.seller) THEN
        RAISE EXCEPTION 'invoice % of seller % does not follow the one before', NEW.sequence, NEW.seller
          USING ERRCODE = 'check_violation';
      END IF;
      IF NEW.period_start <> (SELECT coalesce(max(period_end), NEW.period_start) FROM invoices
                              WHERE org = NEW.org AND currency = NEW.currency) THEN
        RAISE EXCEPTION 'invoice % does not begin where the last period of % ended', NEW.number, NEW.org
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER invoice_must_follow BEFORE INSERT ON invoices
    FOR EACH ROW EXECUTE FUNCTION invoice_must_follow()
    """,
    # A line that is added later would change the invoice as surely as one that is altered.
    """
    CREATE FUNCTION invoice_must_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT (coalesce(sum(amount_minor), 0), coalesce(sum(exact_nanos), 0)) FROM invoice_lines
          WHERE invoice = NEW.invoice)
         <> (SELECT (total_minor::numeric, exact_nanos) FROM invoices WHERE id = NEW.invoice) THEN
        RAISE EXCEPTION 'the lines of invoice % do not add up to it', NEW.invoice
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER invoice_must_add_up AFTER INSERT ON invoice_lines
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoice_must_add_up()
    """,
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in ("invoices", "invoice_lines", "invoice_portions")
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
