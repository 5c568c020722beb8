"""What keys may be used for and from where, and the models of a whole organisation."""

from alembic import op

revision = "0030"
down_revision = "0020"
branch_labels = None
depends_on = None

# Null everywhere means no restriction, as it was before.
STATEMENTS = (
    "ALTER TABLE organizations ADD COLUMN models text[]",
    "ALTER TABLE projects ADD COLUMN allowed_cidrs text[]",
    "ALTER TABLE api_keys ADD COLUMN scopes text[], ADD COLUMN allowed_cidrs text[]",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
