"""Every metric of billing's processes: name, unit, meaning. docs/operations/metrics.md is held to this.

Labels are of what this project names. What workers read in the books every one of them tells: ask for the largest.
Amounts are for looking at, as floating-point numbers are; the books themselves know none.
"""

from headrace_telemetry.metrics import Kind, Metric

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

HTTP_REQUESTS = Metric(
    "headrace_billing_http_requests_total",
    Kind.COUNTER,
    "Requests to the API, by route and status.",
    ("method", "route", "status"),
)
HTTP_SECONDS = Metric(
    "headrace_billing_http_request_seconds",
    Kind.HISTOGRAM,
    "How long the API took to answer.",
    ("method", "route"),
    SECONDS,
)
DATABASE_CONNECTIONS = Metric(
    "headrace_billing_database_connections", Kind.GAUGE, "Connections to Postgres in use by the process."
)
LOOP_AGE = Metric(
    "headrace_billing_loop_age_seconds",
    Kind.GAUGE,
    "Since a worker's loop last did its work, or found none, without failing.",
    ("loop",),
)
LOOP_FAILURES = Metric(
    "headrace_billing_loop_failures_total",
    Kind.COUNTER,
    "Steps of a worker's loop that failed and were tried again.",
    ("loop",),
)
INGESTED = Metric(
    "headrace_billing_ingested_events_total",
    Kind.COUNTER,
    "Usage events committed since this worker started, by the way they came: `stream`, `journal` over HTTP, or `meter`.",
    ("source",),
)
STREAM_LAG = Metric(
    "headrace_billing_stream_lag_seconds",
    Kind.GAUGE,
    "Age of the oldest event in Valkey's stream that is not committed; 0 where all are.",
)
VALKEY_BYTES = Metric(
    "headrace_billing_valkey_memory_bytes", Kind.GAUGE, "Memory that Valkey for the limits has in use."
)
VALKEY_BYTES_MAX = Metric(
    "headrace_billing_valkey_memory_max_bytes",
    Kind.GAUGE,
    "Memory that it may use, its `maxmemory`; 0 where nothing bounds it. When it is full requests are refused.",
)
QUARANTINED = Metric(
    "headrace_billing_quarantined_events",
    Kind.GAUGE,
    "Usage events kept aside because they can't be anybody's, up to 10,000. Each makes reconciliation red.",
)
CONFLICTING = Metric(
    "headrace_billing_conflicting_events",
    Kind.GAUGE,
    "Usage events that came again with other content, up to 10,000.",
)
JOURNAL_GAPS = Metric(
    "headrace_billing_journals_with_gaps",
    Kind.GAUGE,
    "Gateways' journals of which a sequence has been missing for a minute.",
)
RECORDS_UNPUSHED = Metric(
    "headrace_billing_records_unpushed",
    Kind.GAUGE,
    "Records of keys, projects and prices that Valkey has not been told in their newest version.",
)
BALANCES_UNPUSHED = Metric(
    "headrace_billing_balances_unpushed",
    Kind.GAUGE,
    "Wallets whose balance Valkey has not been told in its newest version.",
)
BALANCE_SYNC_AGE = Metric(
    "headrace_billing_balance_sync_age_seconds",
    Kind.GAUGE,
    "For how long some wallet's newest balance has been unpushed at each look; 0 where all are pushed.",
)
POSTINGS = Metric(
    "headrace_billing_ledger_postings_total",
    Kind.COUNTER,
    "Postings of the ledger, by the number of the newest.",
)
LEDGER_BALANCE = Metric(
    "headrace_billing_ledger_balance",
    Kind.GAUGE,
    "Balance of a kind of account over all owners, in the currency's major unit, debit positive: revenue is negative.",
    ("account", "currency"),
)
RECONCILED = Metric(
    "headrace_billing_reconciled_requests",
    Kind.GAUGE,
    "Requests of the days that reconciliation keeps looking at: the last 35.",
)
UNRECONCILED = Metric(
    "headrace_billing_unreconciled",
    Kind.GAUGE,
    "Requests and checks of the books that are not green in the last look at each day and stage, by reason; `awaiting_…` are a matter of waiting.",
    ("reason",),
)
RECONCILIATION_RED = Metric(
    "headrace_billing_reconciliation_red", Kind.GAUGE, "1 where the last look at some day or stage was red."
)
UNEXPLAINED = Metric(
    "headrace_billing_unexplained_tokens",
    Kind.GAUGE,
    "Tokens that engines yielded and that are neither billed nor explained, in the last look at each day.",
)
UNWITNESSED = Metric(
    "headrace_billing_unwitnessed_requests",
    Kind.GAUGE,
    "Requests to engines that are declared to tell nothing, of the same days: there is no engine record to compare with.",
)
BATCHES = Metric(
    "headrace_billing_batches",
    Kind.GAUGE,
    "Batches that have not ended, by status.",
    ("status",),
)
BATCH_LINES = Metric(
    "headrace_billing_batch_lines_open",
    Kind.GAUGE,
    "Requests of batches that have no answer yet.",
)
BATCH_REQUESTS = Metric(
    "headrace_billing_batch_requests_total",
    Kind.COUNTER,
    "Requests that this worker sent for batches, by what came of each: `answered`, `failed`, `no_room` (asked again "
    "when there is), `again` (tried again).",
    ("verdict",),
)

CATALOGUE = {
    metric.name: metric
    for metric in (
        HTTP_REQUESTS,
        HTTP_SECONDS,
        DATABASE_CONNECTIONS,
        LOOP_AGE,
        LOOP_FAILURES,
        INGESTED,
        STREAM_LAG,
        VALKEY_BYTES,
        VALKEY_BYTES_MAX,
        QUARANTINED,
        CONFLICTING,
        JOURNAL_GAPS,
        RECORDS_UNPUSHED,
        BALANCES_UNPUSHED,
        BALANCE_SYNC_AGE,
        POSTINGS,
        LEDGER_BALANCE,
        RECONCILED,
        UNRECONCILED,
        RECONCILIATION_RED,
        UNEXPLAINED,
        UNWITNESSED,
        BATCHES,
        BATCH_LINES,
        BATCH_REQUESTS,
    )
}
