"""Credit notes and write-offs name the members who asked and agreed; nobody has to agree to what is within the bound."""

from alembic import op

revision = "0141"
down_revision = "0140"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE credit_notes ALTER COLUMN approved_by DROP NOT NULL",
    """
    ALTER TABLE invoice_settlements
      DROP CONSTRAINT write_off_needs_two,
      ADD CONSTRAINT write_off_is_asked_for CHECK (
        kind <> 'write_off'
        OR (requested_by IS NOT NULL AND lower(approved_by) IS DISTINCT FROM lower(requested_by)))
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
