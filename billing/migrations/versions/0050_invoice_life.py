"""What becomes of an invoice: tax on it, payments, credit notes, write-offs; and runs that make many of them."""

from alembic import op

revision = "0050"
down_revision = "0042"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE sellers ADD COLUMN country text NOT NULL DEFAULT '' CHECK (country ~ '^([A-Z]{2})?$')",
    # In percent. What a seller has no rate for is not taxed.
    """
    CREATE TABLE tax_rates (
      seller text NOT NULL REFERENCES sellers,
      country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
      name text NOT NULL,
      rate numeric(7, 4) NOT NULL CHECK (rate >= 0 AND rate < 100),
      reverse_charge boolean NOT NULL,
      PRIMARY KEY (seller, country)
    )
    """,
    """
    CREATE TABLE billing_profiles (
      org text PRIMARY KEY REFERENCES organizations,
      seller text NOT NULL REFERENCES sellers,
      legal_name text NOT NULL,
      address text NOT NULL,
      country text NOT NULL CHECK (country ~ '^([A-Z]{2})?$'),
      vat_id text NOT NULL,
      tax_exempt boolean NOT NULL,
      prices_include_tax boolean NOT NULL,
      purchase_order text NOT NULL,
      payment_days integer NOT NULL CHECK (payment_days >= 0),
      cost_centers jsonb NOT NULL
    )
    """,
    # `due_minor` is with tax from here on; what is there was issued without any. Tax that prices include adds nothing.
    """
    ALTER TABLE invoices
      ADD COLUMN tax_minor bigint NOT NULL DEFAULT 0,
      ADD COLUMN tax_included boolean NOT NULL DEFAULT false,
      ADD COLUMN due_at timestamptz,
      DROP CONSTRAINT invoices_check1,
      ADD CONSTRAINT invoice_due_is_total_and_tax_less_credit
        CHECK (due_minor = total_minor + CASE WHEN tax_included THEN 0 ELSE tax_minor END - applied_minor)
    """,
    "CREATE INDEX invoices_of_org ON invoices (org, id)",
    # An invoice adds up when it is issued, and takes nothing more afterwards: what that costs grows with its lines,
    # and no longer with their square. `issued_in` is the database transaction that issued it.
    "ALTER TABLE invoices ADD COLUMN issued_in xid8 NOT NULL DEFAULT pg_current_xact_id()",
    "DROP TRIGGER invoice_must_add_up ON invoice_lines",
    """
    CREATE OR REPLACE FUNCTION invoice_must_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT (coalesce(sum(amount_minor), 0), coalesce(sum(exact_nanos), 0)) FROM invoice_lines
          WHERE invoice = NEW.id)
         <> (NEW.total_minor::numeric, NEW.exact_nanos) THEN
        RAISE EXCEPTION 'the lines of invoice % do not add up to it', NEW.number USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER invoice_must_add_up AFTER INSERT ON invoices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoice_must_add_up()
    """,
    """
    CREATE FUNCTION invoice_takes_no_more() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (SELECT 1 FROM (SELECT DISTINCT invoice FROM fresh) AS f JOIN invoices i ON i.id = f.invoice
                 WHERE i.issued_in <> pg_current_xact_id()) THEN
        RAISE EXCEPTION 'an invoice that stands takes no more of %', TG_TABLE_NAME
          USING ERRCODE = 'restrict_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    *(
        f"""
        CREATE TRIGGER invoice_takes_no_more AFTER INSERT ON {table} REFERENCING NEW TABLE AS fresh
        FOR EACH STATEMENT EXECUTE FUNCTION invoice_takes_no_more()
        """
        for table in ("invoice_lines", "invoice_portions")
    ),
    # --- Credit notes: a gapless series of their own, line by line, never more than the line.
    """
    CREATE TABLE credit_notes (
      id text PRIMARY KEY,
      seller text NOT NULL REFERENCES sellers,
      sequence bigint NOT NULL CHECK (sequence > 0),
      number text NOT NULL UNIQUE,
      kind text NOT NULL CHECK (kind IN ('credit', 'void')),
      invoice text NOT NULL REFERENCES invoices,
      reason text NOT NULL,
      requested_by text NOT NULL,
      approved_by text NOT NULL CHECK (lower(approved_by) <> lower(requested_by)),
      issued_at timestamptz NOT NULL,
      net_minor bigint NOT NULL,
      tax_minor bigint NOT NULL,
      to_credit_minor bigint NOT NULL,
      document json NOT NULL,
      UNIQUE (seller, sequence)
    )
    """,
    "CREATE INDEX credit_notes_of_invoice ON credit_notes (invoice)",
    """
    CREATE TABLE credit_note_lines (
      credit_note text NOT NULL REFERENCES credit_notes,
      invoice text NOT NULL,
      position integer NOT NULL,
      amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
      exact_nanos numeric(38, 0) NOT NULL,
      PRIMARY KEY (credit_note, position),
      FOREIGN KEY (invoice, position) REFERENCES invoice_lines (invoice, position)
    )
    """,
    "CREATE INDEX credit_note_lines_of_invoice ON credit_note_lines (invoice, position)",
    """
    CREATE FUNCTION credit_note_must_follow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.sequence <> 1 + (SELECT coalesce(max(sequence), 0) FROM credit_notes WHERE seller = NEW.seller) THEN
        RAISE EXCEPTION 'credit note % of seller % does not follow the one before', NEW.sequence, NEW.seller
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER credit_note_must_follow BEFORE INSERT ON credit_notes
    FOR EACH ROW EXECUTE FUNCTION credit_note_must_follow()
    """,
    # The invoice's row is the lock: two notes for one line take turns.
    """
    CREATE FUNCTION credit_must_fit_line() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM 1 FROM invoices WHERE id = NEW.invoice FOR UPDATE;
      IF EXISTS (
        SELECT 1 FROM invoice_lines l, LATERAL (
          SELECT sum(c.amount_minor) AS credited FROM credit_note_lines c
          WHERE c.invoice = l.invoice AND c.position = l.position) AS s
        WHERE l.invoice = NEW.invoice AND l.position = NEW.position
          AND (sign(s.credited) <> sign(l.amount_minor) OR abs(s.credited) > abs(l.amount_minor))
      ) THEN
        RAISE EXCEPTION 'line % of invoice % is credited beyond its amount', NEW.position, NEW.invoice
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER credit_must_fit_line AFTER INSERT ON credit_note_lines
    FOR EACH ROW EXECUTE FUNCTION credit_must_fit_line()
    """,
    """
    CREATE FUNCTION credit_note_must_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT coalesce(sum(amount_minor), 0) FROM credit_note_lines WHERE credit_note = NEW.credit_note)
         <> (SELECT net_minor FROM credit_notes WHERE id = NEW.credit_note) THEN
        RAISE EXCEPTION 'the lines of credit note % do not add up to it', NEW.credit_note
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER credit_note_must_add_up AFTER INSERT ON credit_note_lines
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION credit_note_must_add_up()
    """,
    # --- What takes from the amount due. A recovery takes a write-off back, for money that came after all.
    """
    CREATE TABLE invoice_settlements (
      id text NOT NULL,
      invoice text NOT NULL REFERENCES invoices,
      kind text NOT NULL CHECK (kind IN ('payment', 'credit_note', 'write_off', 'recovery', 'reversal')),
      amount_minor bigint NOT NULL CHECK (
        CASE WHEN kind IN ('recovery', 'reversal') THEN amount_minor < 0 ELSE amount_minor >= 0 END),
      over_minor bigint NOT NULL DEFAULT 0 CHECK (over_minor >= 0),
      reference text NOT NULL,
      reason text NOT NULL DEFAULT '',
      requested_by text,
      approved_by text,
      happened_at timestamptz NOT NULL,
      recorded_at timestamptz NOT NULL,
      PRIMARY KEY (id, kind),
      CONSTRAINT settlement_moves_something CHECK (amount_minor <> 0 OR over_minor <> 0),
      CONSTRAINT write_off_needs_two CHECK (
        kind <> 'write_off' OR (requested_by IS NOT NULL AND lower(approved_by) IS DISTINCT FROM lower(requested_by)
                                AND approved_by IS NOT NULL))
    )
    """,
    "CREATE INDEX invoice_settlements_of_invoice ON invoice_settlements (invoice)",
    """
    CREATE FUNCTION settlements_must_fit_due() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      due bigint;
      settled bigint;
    BEGIN
      SELECT due_minor INTO due FROM invoices WHERE id = NEW.invoice FOR UPDATE;
      SELECT sum(amount_minor) INTO settled FROM invoice_settlements WHERE invoice = NEW.invoice;
      IF settled < 0 OR settled > due THEN
        RAISE EXCEPTION 'invoice % would be settled by % of %', NEW.invoice, settled, due
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER settlements_must_fit_due AFTER INSERT ON invoice_settlements
    FOR EACH ROW EXECUTE FUNCTION settlements_must_fit_due()
    """,
    # --- Runs: one draft a customer and currency, each finalised in a transaction of its own.
    """
    CREATE TABLE invoice_runs (
      id text PRIMARY KEY,
      seller text NOT NULL REFERENCES sellers,
      period_end timestamptz NOT NULL,
      finalise_after timestamptz NOT NULL,
      created_at timestamptz NOT NULL,
      UNIQUE (seller, period_end)
    )
    """,
    """
    CREATE TABLE invoice_drafts (
      run text NOT NULL REFERENCES invoice_runs,
      org text NOT NULL REFERENCES organizations,
      currency text NOT NULL,
      state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'final', 'empty', 'refused')),
      invoice text REFERENCES invoices,
      reason jsonb,
      try_after timestamptz NOT NULL,
      PRIMARY KEY (run, org, currency),
      CHECK ((state = 'final') = (invoice IS NOT NULL))
    )
    """,
    "CREATE INDEX invoice_drafts_waiting ON invoice_drafts (try_after) WHERE state = 'draft'",
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in ("credit_notes", "credit_note_lines", "invoice_settlements", "invoice_runs")
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
