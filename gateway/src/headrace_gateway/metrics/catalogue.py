"""Every metric of a gateway: name, unit, meaning. docs/operations/metrics.md is held to this.

What OpenTelemetry's conventions for generative AI name is named as they do, as its Prometheus exporter would write it.
Labels are of what the operator or this project names: deployments, models, dialects, codes; never whose a request is.
"""

from headrace_telemetry.metrics import Kind, Merge, Metric

REQUEST = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_response_model",
    "dialect",
    "deployment",
)

# The conventions' own boundaries, and beyond 82 s, for an agent's long answers.
DURATION_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
DURATION_SECONDS_LONG = (*DURATION_SECONDS, 163.84, 327.68, 655.36)
FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
OUTPUT_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

DURATION = Metric(
    "gen_ai_server_request_duration_seconds",
    Kind.HISTOGRAM,
    "From a request's admission to its settlement; `error_type` is how it ended, empty where it was completed.",
    (*REQUEST, "error_type"),
    DURATION_SECONDS_LONG,
)
FIRST_TOKEN = Metric(
    "gen_ai_server_time_to_first_token_seconds",
    Kind.HISTOGRAM,
    "From a streamed request's admission to the moment when its first token was handed to the client.",
    REQUEST,
    FIRST_TOKEN_SECONDS,
)
OUTPUT_TOKEN = Metric(
    "gen_ai_server_time_per_output_token_seconds",
    Kind.HISTOGRAM,
    "A completed stream's time from the first token to the last, over the tokens after the first.",
    REQUEST,
    OUTPUT_TOKEN_SECONDS,
)
REQUESTS = Metric(
    "headrace_gateway_requests_total",
    Kind.COUNTER,
    "Admitted requests, by how they ended, as their usage events say.",
    ("dialect", "model", "deployment", "outcome"),
)
ATTEMPTS = Metric(
    "headrace_gateway_upstream_attempts_total",
    Kind.COUNTER,
    "Requests sent to engines: more than were admitted, where some had to be sent again.",
    ("dialect", "model", "deployment"),
)
TOKENS = Metric(
    "headrace_gateway_tokens_total",
    Kind.COUNTER,
    "Tokens metered, in disjoint classes: those found in the prefix cache are `cache_read` alone.",
    ("dialect", "model", "deployment", "token_class"),
)
USAGE_DOUBTS = Metric(
    "headrace_gateway_usage_doubts_total",
    Kind.COUNTER,
    "Requests about whose usage the engine's word is doubtful: completed without any (`missing`, so nothing is charged), "
    "with one that can't be (`invalid`, the last that can be stands), or with a longer prompt than was sent at most "
    "(`beyond_bound`, charged as told).",
    ("dialect", "model", "deployment", "doubt"),
)
ERRORS = Metric(
    "headrace_gateway_errors_total",
    Kind.COUNTER,
    "Errors told to clients by their stable code, as an answer or as a stream's last event.",
    ("code",),
)
QUEUE_WAIT = Metric(
    "headrace_gateway_queue_wait_seconds",
    Kind.HISTOGRAM,
    "How long a request that found no slot free stood in line, by what came of it: `served`, `refused` or `gone`.",
    ("deployment", "outcome"),
    DURATION_SECONDS,
)
QUEUED = Metric(
    "headrace_gateway_queued_requests",
    Kind.GAUGE,
    "Requests that wait for a slot now. One that would do at several deployments stands in each one's line.",
    ("deployment",),
)
RUNNING = Metric(
    "headrace_gateway_running_requests",
    Kind.GAUGE,
    "Admitted requests that run now. Over all gateways: the slots that are taken.",
    ("deployment",),
)
SLOTS = Metric(
    "headrace_gateway_deployment_slots",
    Kind.GAUGE,
    "Requests that a deployment is sent at once by all gateways together; none where nothing bounds them.",
    ("deployment",),
    merge=Merge.MAX,
)
LEFT_ALONE = Metric(
    "headrace_gateway_deployment_left_alone",
    Kind.GAUGE,
    "1 while a deployment that failed too often is sent nothing.",
    ("deployment",),
    merge=Merge.MAX,
)
TABLES_UNREAD = Metric(
    "headrace_gateway_deployment_tables_unreadable",
    Kind.GAUGE,
    "Tables of deployments that can't be read or say what can't be; what each last said stands.",
    merge=Merge.MAX,
)
PLACES = Metric("headrace_gateway_inflight_places", Kind.GAUGE, "Requests that may run at once here.")
ADMITTING = Metric(
    "headrace_gateway_admitting",
    Kind.GAUGE,
    "1 while requests can be admitted: Valkey answers and is loaded.",
    merge=Merge.MIN,
)
VALKEY = Metric(
    "headrace_gateway_valkey_connected",
    Kind.GAUGE,
    "1 while there is a connection to Valkey.",
    merge=Merge.MIN,
)
VALKEY_CALLS = Metric(
    "headrace_gateway_valkey_calls_outstanding", Kind.GAUGE, "Calls that Valkey has not answered yet."
)
ROUND_AGE = Metric(
    "headrace_gateway_round_age_seconds",
    Kind.GAUGE,
    "Since a loop's last round that went well. `heartbeat` renews leases, `revocation` finds revoked keys' streams, "
    "`reaper` takes over lost gateways' requests, `resend` sends billing what the stream lost, `recovery` settles "
    "what died.",
    ("loop",),
    merge=Merge.MAX,
)
REAPED = Metric(
    "headrace_gateway_reaped_requests_total",
    Kind.COUNTER,
    "Requests of lost gateways that this one ended with an estimated event.",
)
UNSETTLED = Metric(
    "headrace_gateway_unsettled_requests",
    Kind.GAUGE,
    "Requests that ended and whose settlement Valkey has not answered yet.",
)
SETTLEMENT_AGE = Metric(
    "headrace_gateway_settlement_age_seconds",
    Kind.GAUGE,
    "For how long the oldest settlement that has to be sent again has waited; 0 where none has.",
    merge=Merge.MAX,
)
SETTLEMENTS_GIVEN_UP = Metric(
    "headrace_gateway_settlements_given_up_total",
    Kind.COUNTER,
    "Settlements left to the next start because too many waited.",
)
JOURNAL_BYTES = Metric("headrace_gateway_journal_bytes", Kind.GAUGE, "Space that the journal takes.")
JOURNAL_BYTES_MAX = Metric(
    "headrace_gateway_journal_max_bytes",
    Kind.GAUGE,
    "Space that the journal may take; when it is full of what billing lacks, requests are refused.",
)
JOURNAL_UNACKNOWLEDGED = Metric(
    "headrace_gateway_journal_unacknowledged_events",
    Kind.GAUGE,
    "Usage events that billing has not acknowledged, those of dead processes included.",
)
JOURNAL_AGE = Metric(
    "headrace_gateway_journal_lag_seconds",
    Kind.GAUGE,
    "Age of the oldest event that billing has not acknowledged, up to the two minutes that are remembered.",
    merge=Merge.MAX,
)
JOURNAL_WRITABLE = Metric(
    "headrace_gateway_journal_writable",
    Kind.GAUGE,
    "0 while the disk refuses the journal, and with it every request.",
    merge=Merge.MIN,
)
RESPONSES_LOST = Metric(
    "headrace_gateway_responses_lost_total",
    Kind.COUNTER,
    "Kept responses that made room for others before their day was over, less those that a later one goes on from: "
    "clients have to send these conversations again. More of them than a few want larger bounds.",
)
SPANS_LOST = Metric(
    "headrace_gateway_spans_lost_total",
    Kind.COUNTER,
    "Spans that the collector did not get: it was away, or too many waited.",
)
WORKERS = Metric("headrace_gateway_workers", Kind.GAUGE, "Worker processes that answered the scrape.")

CATALOGUE = {
    metric.name: metric
    for metric in (
        DURATION,
        FIRST_TOKEN,
        OUTPUT_TOKEN,
        REQUESTS,
        ATTEMPTS,
        TOKENS,
        USAGE_DOUBTS,
        ERRORS,
        QUEUE_WAIT,
        QUEUED,
        RUNNING,
        SLOTS,
        LEFT_ALONE,
        TABLES_UNREAD,
        PLACES,
        ADMITTING,
        VALKEY,
        VALKEY_CALLS,
        ROUND_AGE,
        REAPED,
        UNSETTLED,
        SETTLEMENT_AGE,
        SETTLEMENTS_GIVEN_UP,
        JOURNAL_BYTES,
        JOURNAL_BYTES_MAX,
        JOURNAL_UNACKNOWLEDGED,
        JOURNAL_AGE,
        JOURNAL_WRITABLE,
        RESPONSES_LOST,
        SPANS_LOST,
        WORKERS,
    )
}
