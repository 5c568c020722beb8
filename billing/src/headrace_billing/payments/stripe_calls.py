"""Asking Stripe's SDK: in a thread, once, and with what it raises told as ours and logged without what was sent."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import stripe
import structlog

from headrace_billing.payments.access import PaymentDeclined, PaymentRefused, PaymentsUnavailable

LIST_MAX = 100
# A day of a busy account; each page is a request of a third of a second.
PAGES_MAX = 1000

Answer = TypeVar("Answer")

log = structlog.get_logger()


async def ask(call: Callable[[], Answer]) -> Answer:
    try:
        return await asyncio.to_thread(call)
    except stripe.CardError as error:
        body: Any = error.json_body or {}
        told = body.get("error", {})
        reason = told.get("decline_code") or error.code or "card_declined"
        payment = (told.get("payment_intent") or {}).get("id")
        log.info("stripe_declined", reason=reason, request=error.request_id)
        raise PaymentDeclined(reason, payment=payment) from None
    except stripe.InvalidRequestError as error:
        reason = error.code or error.param or "invalid_request"
        log.warning("stripe_refused", reason=reason, status=error.http_status, request=error.request_id)
        raise PaymentRefused(reason) from None
    except stripe.StripeError as error:
        # Among them a key that another request of ours is using at this moment: that one may well succeed.
        # Its own words can quote what was sent, so only the kind of error is told.
        log.warning(
            "stripe_unavailable",
            error=type(error).__name__,
            status=error.http_status,
            request=error.request_id,
        )
        raise PaymentsUnavailable from None


async def pages(fetch: Callable[[Any], Any], params: dict[str, Any]) -> list[Any]:
    """All of a list, newest first. Raises `PaymentsUnavailable` for one that is longer than we ever make."""
    found: list[Any] = []
    for _ in range(PAGES_MAX):
        asked = {**params, "limit": LIST_MAX}
        if found:
            asked["starting_after"] = found[-1].id
        page = await ask(lambda asked=asked: fetch(asked))  # type: ignore[misc]
        found += page.data
        if not page.has_more:
            return found
    log.error("stripe_list_too_long", entries=len(found))
    raise PaymentsUnavailable
