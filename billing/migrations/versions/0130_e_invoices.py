"""What e-invoices say of seller and buyer beyond what is printed; nothing is said until somebody does."""

from alembic import op

revision = "0130"
down_revision = "0100"
branch_labels = None
depends_on = None

STATEMENTS = tuple(
    f"ALTER TABLE {table} ADD COLUMN e_invoice jsonb NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(e_invoice) = 'object')"
    for table in ("sellers", "billing_profiles")
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
