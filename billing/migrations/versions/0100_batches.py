"""Files that customers upload, and batches of requests that are served when there is room."""

from alembic import op

revision = "0100"
down_revision = "0094"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE files (
      id text PRIMARY KEY,
      project text NOT NULL REFERENCES projects,
      purpose text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
      filename text NOT NULL,
      bytes bigint NOT NULL CHECK (bytes >= 0),
      complete boolean NOT NULL DEFAULT false,
      created_at timestamptz NOT NULL,
      expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX files_of_project ON files (project, id)",
    "CREATE INDEX files_to_expire ON files (expires_at)",
    "CREATE INDEX files_under_way ON files (created_at) WHERE NOT complete",
    # In pieces, so that neither side ever holds the whole of a file.
    """
    CREATE TABLE file_pieces (
      file text NOT NULL REFERENCES files ON DELETE CASCADE,
      number integer NOT NULL,
      content bytea NOT NULL,
      PRIMARY KEY (file, number)
    )
    """,
    """
    CREATE TABLE batches (
      id text PRIMARY KEY,
      project text NOT NULL REFERENCES projects,
      key text NOT NULL REFERENCES api_keys,
      endpoint text NOT NULL,
      input_file text NOT NULL,
      metadata jsonb NOT NULL,
      status text NOT NULL CHECK (status IN (
        'validating', 'failed', 'in_progress', 'finalizing', 'cancelling', 'cancelled', 'expired', 'completed')),
      errors jsonb NOT NULL DEFAULT '[]',
      output_file text REFERENCES files ON DELETE SET NULL,
      error_file text REFERENCES files ON DELETE SET NULL,
      total integer NOT NULL DEFAULT 0,
      completed integer NOT NULL DEFAULT 0,
      failed integer NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL,
      expires_at timestamptz NOT NULL,
      not_before timestamptz NOT NULL,
      in_progress_at timestamptz,
      finalizing_at timestamptz,
      cancelling_at timestamptz,
      ended_at timestamptz
    )
    """,
    "CREATE INDEX batches_of_project ON batches (project, id)",
    """
    CREATE INDEX batches_that_run ON batches (id)
      WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
    """,
    "CREATE INDEX batches_of_output ON batches (output_file) WHERE output_file IS NOT NULL",
    "CREATE INDEX batches_of_errors ON batches (error_file) WHERE error_file IS NOT NULL",
    # `due_at`: of a waiting line when it may be sent (again); of one that is under way when it counts as forgotten.
    # `doubt_since`: since when it may have been answered without anybody here knowing.
    """
    CREATE TABLE batch_lines (
      batch text NOT NULL REFERENCES batches ON DELETE CASCADE,
      number integer NOT NULL,
      custom_id text NOT NULL,
      body bytea NOT NULL,
      state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'answered', 'failed')),
      due_at timestamptz NOT NULL,
      doubt_since timestamptz,
      tries integer NOT NULL DEFAULT 0,
      error text,
      status integer,
      request text,
      answer bytea,
      PRIMARY KEY (batch, number)
    )
    """,
    "CREATE INDEX batch_lines_open ON batch_lines (batch, number) WHERE state IN ('waiting', 'sent')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
