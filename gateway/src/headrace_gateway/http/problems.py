"""Refusals on the wire: the one table from codes to statuses, and OpenAI's shape of an error.

What must stay true: every `GatewayError` has a line in `STATUSES`; a message never holds a key or a prompt.
"""

import math
from typing import Any

import msgspec

from headrace_gateway.errors import (
    AnswerNotKept,
    CapacityExhausted,
    GatewayError,
    InvalidRequest,
    LimitReached,
)
from headrace_gateway.http.exchange import Headers

_encode = msgspec.json.encode


class PathUnknown(GatewayError):
    code = "path_unknown"


class MethodNotAllowed(GatewayError):
    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed} only.")
        self.allowed = allowed


class BodyTooSlow(GatewayError):
    """The request's body did not arrive in time."""

    code = "body_too_slow"


class EncodingUnknown(GatewayError):
    """The request's body is compressed."""

    code = "content_encoding_unknown"

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"A body with `Content-Encoding: {encoding[:40]}` is not read here. Send it as it is, uncompressed."
        )


class ShuttingDown(GatewayError):
    """This gateway is stopping; another one takes the request."""

    code = "shutting_down"
    retry_after_seconds = 1.0


class Revoked(GatewayError):
    """The key was revoked, or the request's lease lost, while it ran."""

    code = "revoked"


class DeadlineReached(GatewayError):
    code = "deadline_reached"


class InternalError(GatewayError):
    """Our own bug; the log knows more."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The gateway failed. The request id helps to find out why.")


# OpenAI's clients try again by themselves on 408, 409, 429 and 5xx. So what waiting does not mend is none of
# these: a wallet that is empty is a 402.
STATUSES: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "invalid_request_error"),
    "not_offered": (400, "invalid_request_error"),
    "duplicate_request_id": (400, "invalid_request_error"),
    "content_refused": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "previous_response_not_found": (400, "invalid_request_error"),
    "task_not_open": (400, "invalid_request_error"),
    "invalid_api_key": (401, "authentication_error"),
    "api_key_revoked": (401, "authentication_error"),
    "api_key_expired": (401, "authentication_error"),
    "revoked": (401, "authentication_error"),
    "insufficient_balance": (402, "insufficient_quota"),
    "commitment_used_up": (402, "insufficient_quota"),
    "budget_exhausted": (402, "insufficient_quota"),
    "service_paused": (402, "insufficient_quota"),
    "model_not_allowed": (403, "permission_error"),
    "ip_not_allowed": (403, "permission_error"),
    "scope_missing": (403, "permission_error"),
    "model_not_found": (404, "invalid_request_error"),
    "response_not_found": (404, "invalid_request_error"),
    "item_not_found": (404, "invalid_request_error"),
    "path_unknown": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "body_too_slow": (408, "invalid_request_error"),
    "idempotency_in_progress": (409, "invalid_request_error"),
    "idempotency_answer_not_kept": (410, "invalid_request_error"),
    "body_too_large": (413, "invalid_request_error"),
    "content_encoding_unknown": (415, "invalid_request_error"),
    "idempotency_key_reused": (422, "invalid_request_error"),
    "rate_limited": (429, "rate_limit_error"),
    "internal_error": (500, "server_error"),
    "upstream_failed": (502, "upstream_error"),
    "guardrail_failed": (503, "unavailable_error"),
    "batches_unavailable": (503, "unavailable_error"),
    "limits_rebuilding": (503, "unavailable_error"),
    "limits_unavailable": (503, "unavailable_error"),
    "capacity_exhausted": (503, "unavailable_error"),
    "overloaded": (503, "unavailable_error"),
    "shutting_down": (503, "unavailable_error"),
    "upstream_unavailable": (503, "unavailable_error"),
    "upstream_busy": (503, "unavailable_error"),
    "upstream_timed_out": (504, "upstream_error"),
    "deadline_reached": (504, "upstream_error"),
}


def status_of(error: GatewayError) -> int:
    return STATUSES[error.code][0]


def message_of(error: GatewayError) -> str:
    return str(error) or (type(error).__doc__ or error.code).splitlines()[0]


def body_of(error: GatewayError) -> bytes:
    """`{"error": …}` as OpenAI's clients read it, with our stable code."""
    return _encode({"error": fields_of(error)})


def fields_of(error: GatewayError) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "message": message_of(error),
        "type": STATUSES[error.code][1],
        "param": error.param if isinstance(error, InvalidRequest) else None,
        "code": error.code,
    }
    return fields | details_of(error)


def details_of(error: GatewayError) -> dict[str, Any]:
    """What an error tells besides its message and code, whatever the dialect."""
    details: dict[str, Any] = {}
    if isinstance(error, LimitReached):
        details |= {
            "limit": error.limit,
            "scope": error.scope,
            "used": error.used,
            "ceiling": error.ceiling,
            "weight": error.weight,
            "resets_in_seconds": error.resets_in_seconds,
        }
    if isinstance(error, CapacityExhausted):
        details["queue_length"] = error.queue_length
    if isinstance(error, AnswerNotKept):
        details |= {
            "request_id": error.request_id,
            "ending": error.ending,
            "output_tokens": error.output_tokens,
        }
    if (seconds := retry_after_seconds(error)) is not None:
        details["retry_after_seconds"] = seconds
    return details


def headers_of(error: GatewayError) -> Headers:
    headers = [("content-type", "application/json")]
    if (seconds := retry_after_seconds(error)) is not None:
        headers.append(("retry-after", str(math.ceil(seconds))))
    if status_of(error) == 401:
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", error.allowed))
    return headers


def retry_after_seconds(error: GatewayError) -> float | None:
    seconds: float | None = getattr(error, "retry_after_seconds", None)
    return seconds
