"""Contracts: commitments with lots of their own, what they are due and was charged, service levels and their credits."""

from alembic import op

revision = "0120"
down_revision = "0111"
branch_labels = None
depends_on = None

LOT_KINDS = "('wallet_paid', 'wallet_promo', 'commitment')"

STATEMENTS = (
    # --- A commitment is a lot of a wallet, like credit.
    "ALTER TABLE credit_lots DROP CONSTRAINT credit_lots_kind_check",
    f"ALTER TABLE credit_lots ADD CONSTRAINT credit_lots_kind_check CHECK (kind IN {LOT_KINDS})",
    "ALTER TABLE credit_lots DROP CONSTRAINT credit_lots_source_check",
    """
    ALTER TABLE credit_lots
      ADD CONSTRAINT credit_lots_source_check
        CHECK (source IN ('cash', 'manual', 'contract') AND (source = 'contract') = (kind = 'commitment'))
    """,
    "ALTER TABLE ledger_postings DROP CONSTRAINT ledger_postings_check",
    f"""
    ALTER TABLE ledger_postings
      ADD CONSTRAINT ledger_postings_check CHECK ((lot IS NOT NULL) = (kind IN {LOT_KINDS})) NOT VALID
    """,
    "ALTER TABLE ledger_postings VALIDATE CONSTRAINT ledger_postings_check",
    # As before, and a wallet's version grows with its commitment too.
    """
    CREATE OR REPLACE FUNCTION ledger_project() RETURNS trigger LANGUAGE plpgsql AS $$
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
      WHERE id IN (
        SELECT owner FROM fresh WHERE kind IN ('wallet_paid', 'wallet_promo', 'commitment', 'overdraft'));
      INSERT INTO ledger_balances AS b (kind, owner, currency, amount_nanos)
      SELECT kind, owner, currency, sum(amount_nanos) FROM fresh
      GROUP BY kind, owner, currency ORDER BY kind, owner, currency
      ON CONFLICT (kind, owner, currency) DO UPDATE SET amount_nanos = b.amount_nanos + excluded.amount_nanos;
      RETURN NULL;
    END $$
    """,
    # --- A project of a prepaid contract pays by its commitment.
    "ALTER TABLE projects DROP CONSTRAINT projects_disposition_check",
    """
    ALTER TABLE projects
      ADD CONSTRAINT projects_disposition_check
        CHECK (disposition IN ('prepaid', 'payg', 'plan_window', 'commitment')),
      ADD COLUMN overage boolean NOT NULL DEFAULT false
    """,
    "ALTER TABLE charges DROP CONSTRAINT charges_kind_check",
    """
    ALTER TABLE charges ADD CONSTRAINT charges_kind_check CHECK (
      kind IN ('plan', 'seat', 'add_on', 'fee', 'commitment', 'overage', 'true_up', 'minimum', 'gpu_time',
               'service_credit'))
    """,
    # --- Contracts. What they say is in their versions, and no version is ever changed.
    """
    CREATE TABLE contracts (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      name text NOT NULL,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      starts_on date NOT NULL CHECK (extract(day FROM starts_on) = 1),
      months integer NOT NULL CHECK (months > 0),
      cadence text NOT NULL CHECK (cadence IN ('monthly', 'quarterly', 'yearly', 'total')),
      wallet text UNIQUE REFERENCES wallets,
      signed_at timestamptz NOT NULL,
      closed_at timestamptz,
      assess_at timestamptz NOT NULL,
      levels_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX contracts_of_org ON contracts (org, id)",
    "CREATE INDEX contracts_to_assess ON contracts (assess_at)",
    """
    CREATE TABLE contract_versions (
      contract text NOT NULL REFERENCES contracts,
      version integer NOT NULL CHECK (version > 0),
      effective_on date NOT NULL,
      terms jsonb NOT NULL,
      reason text NOT NULL,
      made_at timestamptz NOT NULL,
      PRIMARY KEY (contract, version)
    )
    """,
    # What a project paid by before is kept while the contract has it, and given back when that ends.
    """
    CREATE TABLE contract_projects (
      contract text NOT NULL REFERENCES contracts,
      project text NOT NULL REFERENCES projects,
      disposition_before text,
      wallet_before text REFERENCES wallets,
      PRIMARY KEY (contract, project)
    )
    """,
    "CREATE INDEX contract_projects_by_project ON contract_projects (project)",
    # Of what is broken `paid_nanos` have paid for usage that came late; the rest stands in `breakage`.
    """
    CREATE TABLE contract_periods (
      contract text NOT NULL REFERENCES contracts,
      index integer NOT NULL CHECK (index >= 0),
      starts_at timestamptz NOT NULL,
      ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
      version integer NOT NULL,
      committed_nanos numeric(38, 0) NOT NULL CHECK (committed_nanos >= 0),
      opened_at timestamptz NOT NULL,
      closed_at timestamptz,
      broken_nanos numeric(38, 0) NOT NULL DEFAULT 0 CHECK (broken_nanos >= 0),
      late_nanos numeric(38, 0) NOT NULL DEFAULT 0,
      paid_nanos numeric(38, 0) NOT NULL DEFAULT 0 CHECK (paid_nanos BETWEEN 0 AND broken_nanos),
      PRIMARY KEY (contract, index),
      FOREIGN KEY (contract, version) REFERENCES contract_versions (contract, version)
    )
    """,
    """
    CREATE TABLE contract_lots (
      lot text PRIMARY KEY REFERENCES credit_lots,
      contract text NOT NULL,
      period integer NOT NULL,
      rolled_from text REFERENCES contract_lots,
      FOREIGN KEY (contract, period) REFERENCES contract_periods (contract, index)
    )
    """,
    "CREATE INDEX contract_lots_of_period ON contract_lots (contract, period)",
    """
    CREATE TABLE contract_dues (
      contract text NOT NULL REFERENCES contracts,
      key text NOT NULL,
      number integer NOT NULL CHECK (number > 0),
      quantity bigint NOT NULL,
      nanos numeric(38, 0) NOT NULL CHECK (nanos <> 0),
      charge text NOT NULL UNIQUE REFERENCES charges,
      PRIMARY KEY (contract, key, number)
    )
    """,
    """
    CREATE TABLE contract_alerts (
      contract text NOT NULL,
      period integer NOT NULL,
      percent integer NOT NULL,
      used_nanos numeric(38, 0) NOT NULL,
      at timestamptz NOT NULL,
      PRIMARY KEY (contract, period, percent),
      FOREIGN KEY (contract, period) REFERENCES contract_periods (contract, index)
    )
    """,
    # --- Service levels.
    """
    CREATE TABLE maintenance_windows (
      id text PRIMARY KEY,
      deployment text NOT NULL,
      starts_at timestamptz NOT NULL,
      ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
      reason text NOT NULL,
      declared_at timestamptz NOT NULL CHECK (declared_at < starts_at)
    )
    """,
    "CREATE INDEX maintenance_windows_of_deployment ON maintenance_windows (deployment, starts_at)",
    """
    CREATE TABLE service_credits (
      id text PRIMARY KEY,
      contract text NOT NULL REFERENCES contracts,
      level text NOT NULL,
      month date NOT NULL CHECK (extract(day FROM month) = 1),
      number integer NOT NULL CHECK (number > 0),
      good bigint NOT NULL,
      counted bigint NOT NULL,
      doubts bigint NOT NULL,
      fee_nanos numeric(38, 0) NOT NULL,
      nanos numeric(38, 0) NOT NULL CHECK (nanos > 0),
      charge text NOT NULL UNIQUE REFERENCES charges,
      made_at timestamptz NOT NULL,
      reversed_at timestamptz,
      reversal text UNIQUE REFERENCES charges,
      UNIQUE (contract, level, month, number),
      CHECK ((reversed_at IS NULL) = (reversal IS NULL))
    )
    """,
    "CREATE INDEX usage_events_of_deployment ON usage_events (org, deployment, received_at)",
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in (
            "contract_versions",
            "contract_lots",
            "contract_dues",
            "contract_alerts",
            "maintenance_windows",
        )
    ),
    # --- Webhooks. Also in the code's webhooks/event.py, which names the types.
    """
    CREATE FUNCTION webhook_contract_period() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(
        c.org, CASE WHEN NEW.closed_at IS NULL THEN 'contract.period_opened' ELSE 'contract.period_closed' END,
        coalesce(NEW.closed_at, NEW.opened_at), jsonb_build_object(
          'organization', c.org, 'contract', c.id, 'period', NEW.index,
          'starts_at', NEW.starts_at, 'ends_at', NEW.ends_at))
      FROM contracts c WHERE c.id = NEW.contract;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_contract_period AFTER INSERT ON contract_periods
    FOR EACH ROW EXECUTE FUNCTION webhook_contract_period()
    """,
    """
    CREATE TRIGGER webhook_contract_period_closed AFTER UPDATE ON contract_periods
    FOR EACH ROW WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL)
    EXECUTE FUNCTION webhook_contract_period()
    """,
    """
    CREATE FUNCTION webhook_contract_alert() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(c.org, 'contract.threshold_reached', NEW.at, jsonb_build_object(
        'organization', c.org, 'contract', c.id, 'period', NEW.period, 'percent', NEW.percent))
      FROM contracts c WHERE c.id = NEW.contract;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_contract_alert AFTER INSERT ON contract_alerts
    FOR EACH ROW EXECUTE FUNCTION webhook_contract_alert()
    """,
    """
    CREATE FUNCTION webhook_service_credit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM webhook_note(
        c.org, CASE WHEN NEW.reversed_at IS NULL THEN 'contract.service_credited' ELSE 'contract.credit_reversed' END,
        coalesce(NEW.reversed_at, NEW.made_at), jsonb_build_object(
          'organization', c.org, 'contract', c.id, 'service_credit', NEW.id, 'level', NEW.level, 'month', NEW.month))
      FROM contracts c WHERE c.id = NEW.contract;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER webhook_service_credit AFTER INSERT OR UPDATE ON service_credits
    FOR EACH ROW EXECUTE FUNCTION webhook_service_credit()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
