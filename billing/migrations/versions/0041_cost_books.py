"""Cost books: what a token costs the seller, by version."""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Usage of an hour costs what the newest version says that is effective then: hours are what rollups can tell apart.
    """
    CREATE TABLE cost_books (
      id text PRIMARY KEY,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      version integer NOT NULL CHECK (version > 0),
      published_at timestamptz NOT NULL,
      effective_at timestamptz NOT NULL,
      UNIQUE (currency, version)
    )
    """,
    # Per 1,000,000 tokens.
    """
    CREATE TABLE cost_book_costs (
      cost_book text NOT NULL REFERENCES cost_books,
      model text NOT NULL,
      input_uncached numeric(30, 12) NOT NULL CHECK (input_uncached >= 0),
      cache_read numeric(30, 12) NOT NULL CHECK (cache_read >= 0),
      cache_write numeric(30, 12) NOT NULL CHECK (cache_write >= 0),
      output numeric(30, 12) NOT NULL CHECK (output >= 0),
      PRIMARY KEY (cost_book, model)
    )
    """,
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only()
        """
        for table in ("cost_books", "cost_book_costs")
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
