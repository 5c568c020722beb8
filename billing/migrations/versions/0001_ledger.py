"""The double-entry ledger, and the rules that hold whoever writes: balanced, append-only, no lot below zero."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE wallets (
      id text PRIMARY KEY,
      org text NOT NULL,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      version bigint NOT NULL DEFAULT 1,
      pushed_version bigint NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL,
      UNIQUE (id, currency)
    )
    """,
    "CREATE INDEX wallets_to_push ON wallets (id) WHERE pushed_version < version",
    "CREATE INDEX wallets_of_org ON wallets (org)",
    """
    CREATE TABLE credit_lots (
      id text PRIMARY KEY,
      wallet text NOT NULL,
      kind text NOT NULL CHECK (kind IN ('wallet_paid', 'wallet_promo')),
      currency text NOT NULL,
      granted_nanos numeric(38, 0) NOT NULL CHECK (granted_nanos > 0),
      opened_at timestamptz NOT NULL,
      expires_at timestamptz,
      scope text,
      priority integer NOT NULL,
      remaining_nanos numeric(38, 0) NOT NULL DEFAULT 0,
      used_nanos numeric(38, 0) NOT NULL DEFAULT 0,
      last_burnt bigint NOT NULL DEFAULT 0,
      CONSTRAINT credit_lot_not_below_zero CHECK (remaining_nanos >= 0),
      CONSTRAINT credit_lot_returns_at_most_what_was_used CHECK (used_nanos >= 0),
      UNIQUE (id, kind, wallet, currency),
      FOREIGN KEY (wallet, currency) REFERENCES wallets (id, currency)
    )
    """,
    "CREATE INDEX credit_lots_of_wallet ON credit_lots (wallet)",
    "CREATE INDEX credit_lots_to_expire ON credit_lots (expires_at) WHERE remaining_nanos > 0",
    # `posted_in` ties postings to the database transaction that wrote their transaction: nothing is added later.
    """
    CREATE TABLE ledger_transactions (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      key text NOT NULL UNIQUE,
      payload_hash bytea NOT NULL CHECK (octet_length(payload_hash) = 32),
      kind text NOT NULL,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      occurred_at timestamptz NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT now(),
      posted_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
      memo jsonb NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE TABLE ledger_postings (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      transaction_id bigint NOT NULL REFERENCES ledger_transactions,
      kind text NOT NULL CHECK (kind IN (
        'receivable', 'wallet_paid', 'wallet_promo', 'overdraft', 'commitment', 'unbilled', 'outcome_reserved',
        'wallet_applied', 'refund_liability', 'cash_clearing', 'psp_fees', 'revenue_tokens', 'revenue_outcomes',
        'deferred', 'breakage', 'promo_contra', 'tax_payable', 'bad_debt', 'rounding', 'fx', 'manual_grants')),
      owner text NOT NULL,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      amount_nanos numeric(38, 0) NOT NULL CHECK (amount_nanos <> 0),
      lot text,
      CHECK ((lot IS NOT NULL) = (kind IN ('wallet_paid', 'wallet_promo'))),
      FOREIGN KEY (lot, kind, owner, currency) REFERENCES credit_lots (id, kind, wallet, currency)
    )
    """,
    "CREATE INDEX ledger_postings_of_transaction ON ledger_postings (transaction_id)",
    "CREATE INDEX ledger_postings_of_account ON ledger_postings (owner, kind)",
    "CREATE INDEX ledger_postings_of_lot ON ledger_postings (lot) WHERE lot IS NOT NULL",
    """
    CREATE TABLE ledger_balances (
      kind text NOT NULL,
      owner text NOT NULL,
      currency text NOT NULL,
      amount_nanos numeric(38, 0) NOT NULL,
      PRIMARY KEY (kind, owner, currency)
    )
    """,
    """
    CREATE VIEW ledger_balances_recomputed AS
      SELECT kind, owner, currency, sum(amount_nanos)::numeric(38, 0) AS amount_nanos
      FROM ledger_postings GROUP BY kind, owner, currency
    """,
    """
    CREATE VIEW credit_lots_recomputed AS
      SELECT l.id,
             coalesce(-sum(p.amount_nanos), 0)::numeric(38, 0) AS remaining_nanos,
             coalesce(sum(p.amount_nanos) FILTER (WHERE t.kind IN ('usage', 'overdraft_repaid')), 0)::numeric(38, 0)
               AS used_nanos,
             coalesce(max(p.id) FILTER (WHERE p.amount_nanos > 0), 0) AS last_burnt
      FROM credit_lots l
      LEFT JOIN ledger_postings p ON p.lot = l.id
      LEFT JOIN ledger_transactions t ON t.id = p.transaction_id
      GROUP BY l.id
    """,
    # --- Σ = 0 per transaction and currency, looked at when the database transaction commits.
    """
    CREATE FUNCTION ledger_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT sum(amount_nanos) FROM ledger_postings
          WHERE transaction_id = NEW.transaction_id AND currency = NEW.currency) <> 0 THEN
        RAISE EXCEPTION 'ledger transaction % does not add up to zero in %', NEW.transaction_id, NEW.currency
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER ledger_must_balance AFTER INSERT ON ledger_postings
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_must_balance()
    """,
    # --- Nothing is changed, removed, or added to a transaction that stands.
    """
    CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_postings
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    # --- Projections follow in the same statement, in one fixed order of rows.
    """
    CREATE FUNCTION ledger_project() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (SELECT 1 FROM fresh f JOIN ledger_transactions t ON t.id = f.transaction_id
                 WHERE t.posted_in <> pg_current_xact_id()) THEN
        RAISE EXCEPTION 'a ledger transaction that stands takes no more postings'
          USING ERRCODE = 'restrict_violation';
      END IF;
      UPDATE credit_lots l
      SET remaining_nanos = l.remaining_nanos - d.amount,
          used_nanos = l.used_nanos + d.used,
          last_burnt = greatest(l.last_burnt, d.last_burnt)
      FROM (
        SELECT f.lot, sum(f.amount_nanos) AS amount,
               coalesce(sum(f.amount_nanos) FILTER (WHERE t.kind IN ('usage', 'overdraft_repaid')), 0) AS used,
               max(f.id) FILTER (WHERE f.amount_nanos > 0) AS last_burnt
        FROM fresh f JOIN ledger_transactions t ON t.id = f.transaction_id
        WHERE f.lot IS NOT NULL GROUP BY f.lot
      ) d
      WHERE l.id = d.lot;
      UPDATE wallets SET version = version + 1
      WHERE id IN (SELECT owner FROM fresh WHERE kind IN ('wallet_paid', 'wallet_promo', 'overdraft'));
      INSERT INTO ledger_balances AS b (kind, owner, currency, amount_nanos)
      SELECT kind, owner, currency, sum(amount_nanos) FROM fresh
      GROUP BY kind, owner, currency ORDER BY kind, owner, currency
      ON CONFLICT (kind, owner, currency) DO UPDATE SET amount_nanos = b.amount_nanos + excluded.amount_nanos;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER ledger_project AFTER INSERT ON ledger_postings REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_project()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
