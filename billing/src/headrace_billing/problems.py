"""Every refusal as an RFC 9457 problem: one table from code to status, and nothing else knows statuses.

A room that defines a new code adds its line here; a test finds the ones that are missing.
"""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from headrace_billing.errors import BillingError

STATUSES: dict[str, int] = {
    "invalid_request": 400,
    "unauthenticated": 401,
    "insufficient_balance": 402,
    "forbidden": 403,
    "ip_not_allowed": 403,
    "scope_missing": 403,
    "role_missing": 403,
    "role_too_high": 403,
    "token_life_too_long": 422,
    "too_many_tokens": 409,
    "approver_is_requester": 403,
    "amount_grown": 409,
    "approval_decided": 409,
    "endpoint_url_invalid": 422,
    "endpoint_disabled": 409,
    "too_many_endpoints": 409,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_key_missing": 400,
    "idempotency_conflict": 409,
    "body_too_large": 413,
    "media_type_unsupported": 415,
    "backfill_invalid": 422,
    "backfill_needs_two": 422,
    "gap_needs_two": 422,
    "no_such_gap": 409,
    "amount_invalid": 422,
    "balance_too_large": 422,
    "currency_unknown": 422,
    "currency_mismatch": 422,
    "plan_invalid": 422,
    "plan_version_published": 409,
    "plan_version_skipped": 409,
    "plan_change_invalid": 422,
    "subscription_exists": 409,
    "subscription_state": 409,
    "nothing_scheduled": 409,
    "invoices_overdue": 409,
    "only_seller_gives_back": 403,
    "price_invalid": 422,
    "price_change_suspicious": 409,
    "effective_in_the_past": 422,
    "interval_invalid": 422,
    "contract_invalid": 422,
    "amendment_invalid": 409,
    "project_committed": 409,
    "maintenance_invalid": 422,
    "credit_reversed": 409,
    "cost_book_invalid": 422,
    "query_too_wide": 422,
    "scope_invalid": 422,
    "credit_not_refundable": 409,
    "holds_unknown": 503,
    "limits_rebuilding": 503,
    "limits_unavailable": 503,
    "payment_declined": 402,
    "payment_refused": 422,
    "payments_not_configured": 409,
    "payments_unavailable": 503,
    "top_up_out_of_bounds": 422,
    "top_up_currency_unsupported": 422,
    "too_many_open_top_ups": 409,
    "ceiling_too_low": 422,
    "never_reconciled": 404,
    "nothing_due": 409,
    "payment_waits": 409,
    "webhook_unsigned": 400,
    "webhook_stale": 400,
    "cursor_invalid": 400,
    "expiry_in_the_past": 422,
    "acceptance_rule_invalid": 422,
    "evidence_invalid": 422,
    "fallback_unsupported": 422,
    "verifier_unknown": 422,
    "observer_insufficient": 403,
    "outcome_already_billed": 409,
    "outcome_already_reported": 409,
    "outcome_transition_illegal": 409,
    "outcome_window_closed": 409,
    "task_already_open": 409,
    "task_closed": 409,
    "currency_ambiguous": 422,
    "nothing_to_invoice": 409,
    "number_prefix_taken": 409,
    "test_clock_off": 404,
    "test_clock_invalid": 422,
    "books_in_use": 409,
    "month_not_over": 409,
    "month_out_of_order": 409,
    "month_not_reconciled": 409,
    "books_broken": 409,
    "run_exists": 409,
    "vat_id_invalid": 422,
    "e_invoice_incomplete": 409,
    "e_invoice_currency": 409,
    "tax_unavailable": 503,
    "tax_refused": 409,
    "invoice_paid": 409,
    "nothing_open": 409,
    "needs_two": 422,
    "credit_invalid": 422,
    "credited_in_full": 409,
    "paid_in_the_future": 422,
    "period_invalid": 422,
    "reconciliation_pending": 409,
    "reconciliation_red": 409,
    "loss_needs_two": 422,
    "settlement_needs_two": 422,
    "not_lost": 409,
    "version_missing": 428,
    "version_conflict": 412,
    "key_not_active": 409,
    "model_unknown": 422,
    "service_account_disabled": 409,
    "service_account_full": 409,
    "push_pending": 503,
    "unavailable": 503,
    # What waiting does not mend is no 409 or 429 here: OpenAI's clients try these again by themselves.
    "batches_off": 404,
    "batch_ended": 400,
    "storage_full": 400,
    "file_too_large": 413,
    "too_many_batches": 429,
}

# Each names a moment, not a mistake: the same request may be sent again.
RETRY_AFTER_SECONDS = {
    "push_pending": "1",
    "holds_unknown": "2",
    "limits_rebuilding": "2",
    "limits_unavailable": "2",
    "payments_unavailable": "5",
    "unavailable": "2",
    "reconciliation_pending": "5",
    "tax_unavailable": "5",
    "too_many_batches": "30",
}

# What the framework itself refuses.
HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger()


# Where OpenAI's clients ask: they read a refusal in a member of their own, whatever stands beside it.
OPENAI_PATHS = ("/v1/files", "/v1/batches")
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def problem(code: str, detail: str, *, path: str = "", **members: object) -> JSONResponse:
    """The response for `code` at `path`; `members` say more than a sentence can."""
    status = STATUSES[code]
    if path.startswith(OPENAI_PATHS):
        kind = OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        members["error"] = {"message": detail, "type": kind, "param": None, "code": code}
    headers = {"retry-after": RETRY_AFTER_SECONDS[code]} if code in RETRY_AFTER_SECONDS else None
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "detail": detail,
            **members,
        },
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


OF_OURS = "Value error, "
"""What pydantic puts before what our own checks say."""

ARRAY, OBJECT = "Input should be a valid array", "Input should be an object"
IN_JSON = {
    "list_type": ARRAY,
    "tuple_type": ARRAY,
    "dict_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
}
"""What pydantic itself says where it reads the JSON; ours has been read when it comes there."""


def answer_problems(app: FastAPI) -> None:
    """Makes every refusal of `app` a problem document."""

    @app.exception_handler(BillingError)
    async def _refused(request: Request, error: BillingError) -> JSONResponse:
        return problem(error.code, str(error), path=request.url.path, **getattr(error, "members", {}))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {
                "at": ".".join(str(part) for part in e["loc"]),
                "why": IN_JSON.get(e["type"]) or e["msg"].removeprefix(OF_OURS),
            }
            for e in error.errors()
        ]
        detail = "; ".join(f"{e['at']}: {e['why']}" for e in errors)
        return problem("invalid_request", detail, path=request.url.path, errors=errors)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTP_CODES.get(error.status_code, "invalid_request")
        return problem(code, str(error.detail), path=request.url.path)

    # Postgres is away, or every connection is busy. Nothing was done, so the caller may try again.
    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    async def _unavailable(request: Request, error: Exception) -> JSONResponse:
        log.warning("postgres_unavailable", path=request.url.path, error=type(error).__name__)
        return problem(
            "unavailable",
            "The books can't be reached at this moment; try again.",
            path=request.url.path,
        )
