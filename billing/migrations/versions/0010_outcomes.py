"""Outcome types, tasks, outcomes with their evidence and verdicts: what was proven stays, and is billed once."""

from alembic import op

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE outcome_types (
      id text PRIMARY KEY,
      name text NOT NULL,
      version integer NOT NULL CHECK (version > 0),
      criteria text NOT NULL,
      verifier text NOT NULL,
      price_nanos numeric(38, 0) NOT NULL CHECK (price_nanos > 0),
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      evidence_seconds integer NOT NULL,
      verification_seconds integer NOT NULL,
      stability_seconds integer NOT NULL,
      confirmation_seconds integer NOT NULL,
      dispute_seconds integer NOT NULL,
      reversal_seconds integer NOT NULL,
      fallback text NOT NULL CHECK (fallback IN ('free', 'tokens_share', 'tokens_capped')),
      confirming text[] NOT NULL CHECK (confirming <@ ARRAY['A', 'B'] AND cardinality(confirming) > 0),
      deemed_after_stability boolean NOT NULL,
      created_at timestamptz NOT NULL,
      UNIQUE (name, version)
    )
    """,
    """
    CREATE TABLE tasks (
      id text PRIMARY KEY,
      org text NOT NULL REFERENCES organizations,
      project text NOT NULL REFERENCES projects,
      wallet text NOT NULL REFERENCES wallets,
      outcome_type text NOT NULL REFERENCES outcome_types,
      outcome_name text NOT NULL,
      dedupe_key text NOT NULL,
      status text NOT NULL CHECK (status IN ('open', 'closed')),
      reserved boolean NOT NULL,
      cost_guard_micros bigint NOT NULL CHECK (cost_guard_micros > 0),
      opened_at timestamptz NOT NULL,
      evidence_due_at timestamptz NOT NULL,
      closed_at timestamptz,
      CHECK ((status = 'closed') = (closed_at IS NOT NULL))
    )
    """,
    # Two open tasks for one outside object would reserve its price twice, and only one could ever be billed.
    "CREATE UNIQUE INDEX one_open_task ON tasks (org, outcome_name, dedupe_key) WHERE status = 'open'",
    "CREATE INDEX tasks_without_evidence ON tasks (evidence_due_at) WHERE status = 'open'",
    """
    CREATE TABLE attempts (
      task text NOT NULL REFERENCES tasks,
      number integer NOT NULL CHECK (number > 0),
      reported_at timestamptz NOT NULL,
      PRIMARY KEY (task, number)
    )
    """,
    """
    CREATE TABLE outcomes (
      id text PRIMARY KEY,
      task text NOT NULL,
      attempt integer NOT NULL,
      org text NOT NULL,
      project text NOT NULL,
      outcome_type text NOT NULL REFERENCES outcome_types,
      outcome_name text NOT NULL,
      dedupe_key text NOT NULL,
      status text NOT NULL CHECK (status IN ('reported', 'verifying', 'verified', 'accepted', 'invoiced', 'settled',
                                             'rejected', 'expired', 'withdrawn', 'reversed')),
      reported_at timestamptz NOT NULL,
      verified_at timestamptz,
      accepted_at timestamptz,
      accepted_as text CHECK (accepted_as IN ('confirmed', 'deemed')),
      accepted_by text,
      invoice text,
      UNIQUE (task, attempt),
      FOREIGN KEY (task, attempt) REFERENCES attempts (task, number),
      CHECK ((accepted_at IS NULL) = (accepted_as IS NULL) AND (accepted_at IS NULL) = (accepted_by IS NULL)),
      CHECK (status NOT IN ('accepted', 'invoiced', 'settled', 'reversed') OR accepted_at IS NOT NULL)
    )
    """,
    """
    CREATE UNIQUE INDEX one_billable_outcome ON outcomes (org, outcome_name, dedupe_key)
    WHERE status IN ('accepted', 'invoiced', 'settled')
    """,
    """
    CREATE UNIQUE INDEX one_live_outcome_of_task ON outcomes (task)
    WHERE status NOT IN ('rejected', 'expired', 'withdrawn', 'reversed')
    """,
    "CREATE INDEX outcomes_undecided ON outcomes (reported_at) WHERE status IN ('reported', 'verifying', 'verified')",
    "CREATE INDEX outcomes_to_invoice ON outcomes (org, accepted_at) WHERE status = 'accepted'",
    # The same table of moves as `outcomes.outcome.NEXT`; a test compares them pair by pair.
    """
    CREATE FUNCTION outcome_must_move_legally() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.status <> OLD.status AND NOT (CASE OLD.status
        WHEN 'reported' THEN NEW.status IN ('verifying', 'rejected', 'expired', 'withdrawn')
        WHEN 'verifying' THEN NEW.status IN ('verified', 'rejected', 'expired', 'withdrawn')
        WHEN 'verified' THEN NEW.status IN ('accepted', 'rejected', 'expired', 'withdrawn')
        WHEN 'accepted' THEN NEW.status IN ('invoiced', 'reversed')
        WHEN 'invoiced' THEN NEW.status IN ('settled', 'reversed')
        WHEN 'settled' THEN NEW.status = 'reversed'
        ELSE false END) THEN
        RAISE EXCEPTION 'outcome % can not go from % to %', OLD.id, OLD.status, NEW.status
          USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER outcome_must_move_legally BEFORE UPDATE ON outcomes
    FOR EACH ROW EXECUTE FUNCTION outcome_must_move_legally()
    """,
    """
    CREATE TABLE outcome_history (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      outcome text NOT NULL REFERENCES outcomes,
      status text NOT NULL,
      at timestamptz NOT NULL,
      actor text NOT NULL,
      reason text NOT NULL
    )
    """,
    "CREATE INDEX outcome_history_of_outcome ON outcome_history (outcome, id)",
    # Kept as the text that was hashed: jsonb would reorder it, and the hash would prove nothing.
    """
    CREATE TABLE evidence (
      id text PRIMARY KEY,
      outcome text NOT NULL REFERENCES outcomes,
      observer_grade text NOT NULL CHECK (observer_grade IN ('A', 'B', 'C', 'D')),
      observer_id text NOT NULL,
      content text NOT NULL,
      sha256 text NOT NULL CHECK (sha256 = encode(sha256(convert_to(content, 'UTF8')), 'hex')),
      signature text NOT NULL,
      recorded_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX evidence_of_outcome ON evidence (outcome)",
    """
    CREATE TABLE verifications (
      id text PRIMARY KEY,
      outcome text NOT NULL REFERENCES outcomes,
      verifier text NOT NULL,
      result text NOT NULL CHECK (result IN ('pass', 'fail', 'unprovable')),
      reason text NOT NULL,
      decided_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX verifications_of_outcome ON verifications (outcome)",
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in ("outcome_types", "outcome_history", "evidence", "verifications")
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
