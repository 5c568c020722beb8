"""Price books: a version is published whole and never changes, so that every rated token can be rated again."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE price_books (
      id text PRIMARY KEY,
      currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
      version integer NOT NULL CHECK (version > 0),
      published_at timestamptz NOT NULL,
      UNIQUE (currency, version)
    )
    """,
    # Per 1,000,000 tokens.
    """
    CREATE TABLE price_book_prices (
      price_book text NOT NULL REFERENCES price_books,
      model text NOT NULL,
      input_uncached numeric(30, 12) NOT NULL CHECK (input_uncached >= 0),
      cache_read numeric(30, 12) NOT NULL CHECK (cache_read >= 0),
      cache_write numeric(30, 12) NOT NULL CHECK (cache_write >= 0),
      output numeric(30, 12) NOT NULL CHECK (output >= 0),
      PRIMARY KEY (price_book, model)
    )
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_books
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_book_prices
    FOR EACH STATEMENT EXECUTE FUNCTION append_only()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
