"""Our refusals as Z.ai's clients know them: a code of digits, which is text on the wire, and a status.

The codes and the statuses are those of docs.z.ai/api-reference/api-code. Where Z.ai names no status, it is ours;
where it has no code of its own for what happened, it is the one whose advice to the client is right.
"""

from headrace_contracts.access import BUDGETS, LimitKind
from headrace_gateway.errors import FieldMissing, GatewayError, InvalidRequest, KeyMissing, LimitReached

CODES: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "1210"),
    "not_offered": (400, "1212"),
    "duplicate_request_id": (400, "1231"),
    "content_refused": (400, "1301"),
    "context_length_exceeded": (400, "1261"),
    "previous_response_not_found": (400, "1210"),
    "task_not_open": (400, "1210"),
    "invalid_api_key": (401, "1000"),
    "api_key_revoked": (401, "1004"),
    "api_key_expired": (401, "1003"),
    "revoked": (401, "1004"),
    "insufficient_balance": (429, "1113"),
    "commitment_used_up": (429, "1113"),
    "budget_exhausted": (429, "1310"),
    "service_paused": (429, "1113"),
    "ip_not_allowed": (403, "1220"),
    "scope_missing": (403, "1220"),
    "model_not_allowed": (403, "1220"),
    "model_not_found": (400, "1211"),
    "response_not_found": (404, "1210"),
    "item_not_found": (404, "1210"),
    "path_unknown": (404, "1222"),
    "method_not_allowed": (405, "1200"),
    "body_too_slow": (408, "1234"),
    "idempotency_in_progress": (409, "1230"),
    "idempotency_answer_not_kept": (410, "1230"),
    "idempotency_key_reused": (422, "1210"),
    "body_too_large": (413, "1210"),
    "content_encoding_unknown": (415, "1210"),
    "rate_limited": (429, "1303"),
    "internal_error": (500, "500"),
    "upstream_failed": (500, "1234"),
    "guardrail_failed": (503, "1120"),
    "limits_rebuilding": (503, "1120"),
    "limits_unavailable": (503, "1120"),
    "capacity_exhausted": (429, "1312"),
    "overloaded": (503, "1305"),
    "batches_unavailable": (503, "1305"),
    "shutting_down": (503, "1305"),
    "upstream_unavailable": (503, "1305"),
    "upstream_busy": (429, "1312"),
    "upstream_timed_out": (504, "1234"),
    "deadline_reached": (504, "1234"),
}
"""By our stable code."""

LIMITS: dict[str, str] = {
    LimitKind.CONCURRENCY: "1302",
    LimitKind.REQUESTS_PER_MINUTE: "1303",
    LimitKind.WINDOW: "1308",
    LimitKind.SPEND_DAY: "1304",
    **dict.fromkeys(BUDGETS - {LimitKind.SPEND_DAY}, "1310"),
}
"""By what kind of limit is reached; those not named are traffic."""

TRAFFIC = "1305"


def status_of(error: GatewayError) -> int:
    return CODES[error.code][0]


def code_of(error: GatewayError) -> str:
    match error:
        case KeyMissing():
            return "1001"
        case FieldMissing():
            return "1213"
        case InvalidRequest(param=str()) if error.code == "invalid_request":
            return "1214"
        case LimitReached() if error.code not in ("insufficient_balance", "commitment_used_up"):
            return next((code for kind, code in LIMITS.items() if error.limit.startswith(kind)), TRAFFIC)
    return CODES[error.code][1]
