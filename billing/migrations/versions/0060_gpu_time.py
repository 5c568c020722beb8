"""How long pods held accelerators: one row a pod, hour and grade; what is true of an hour is its highest grade."""

from alembic import op

revision = "0060"
down_revision = "0052"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE gpu_time_events (
      pod text NOT NULL,
      hour timestamptz NOT NULL CHECK (date_trunc('hour', hour, 'UTC') = hour),
      grade smallint NOT NULL CHECK (grade IN (0, 1)),
      org text REFERENCES organizations,
      deployment text NOT NULL,
      cluster text NOT NULL,
      model text NOT NULL,
      profile text NOT NULL,
      accelerators integer NOT NULL CHECK (accelerators > 0),
      started_at timestamptz NOT NULL CHECK (started_at >= hour),
      ended_at timestamptz NOT NULL CHECK (ended_at > started_at AND ended_at <= hour + interval '1 hour'),
      gpu_ms bigint NOT NULL CHECK (gpu_ms >= 0),
      payload jsonb NOT NULL,
      payload_hash bytea NOT NULL,
      stored_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (pod, hour, grade)
    )
    """,
    """
    COMMENT ON TABLE gpu_time_events IS
      'Accelerator-milliseconds by pod and hour. Unpriced: no ledger posting follows from it.'
    """,
    "CREATE INDEX gpu_time_events_of_org ON gpu_time_events (org, hour)",
    "CREATE INDEX gpu_time_events_by_hour ON gpu_time_events (hour)",
    # The same (pod, hour, grade) with another payload: kept aside, and the first one stands.
    """
    CREATE TABLE gpu_time_conflicts (
      pod text NOT NULL,
      hour timestamptz NOT NULL,
      grade smallint NOT NULL,
      payload_hash bytea NOT NULL,
      payload jsonb NOT NULL,
      stored_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (pod, hour, grade, payload_hash)
    )
    """,
    # A final event takes an estimate's place, so that a sum changes by the signed difference of the two; an
    # estimate that comes after it changes nothing.
    """
    CREATE VIEW gpu_time AS
    SELECT DISTINCT ON (pod, hour) pod, hour, grade, org, deployment, cluster, model, profile, gpu_ms
    FROM gpu_time_events
    ORDER BY pod, hour, grade DESC
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
