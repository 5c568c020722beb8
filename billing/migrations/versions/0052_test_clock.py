"""A clock that a test installation moves: how far it is ahead of the real time, for all processes alike."""

from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None

STATEMENTS = (
    # One row or none, and it never goes back.
    """
    CREATE TABLE test_clock (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      ahead_us bigint NOT NULL CHECK (ahead_us >= 0),
      moved_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE FUNCTION test_clock_only_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF TG_OP = 'DELETE' OR NEW.ahead_us < OLD.ahead_us THEN
        RAISE EXCEPTION 'the test clock does not go back' USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER test_clock_only_goes_on BEFORE UPDATE OR DELETE ON test_clock
    FOR EACH ROW EXECUTE FUNCTION test_clock_only_goes_on()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
