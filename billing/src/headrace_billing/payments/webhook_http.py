"""The route that Stripe's webhooks come to. It answers as soon as the event is noted; the worker does the rest."""

from typing import Annotated

from fastapi import APIRouter, Header, Request

from headrace_billing.parts import PartsOf
from headrace_billing.payments.http import TillOf
from headrace_billing.payments.webhook import take, verified

router = APIRouter(tags=["payments"])


@router.post("/v1/stripe/webhook")
async def take_webhook(
    request: Request,
    parts: PartsOf,
    till: TillOf,
    stripe_signature: Annotated[str, Header()] = "",
) -> dict[str, bool]:
    """Authenticated by its signature alone."""
    event = verified(await request.body(), stripe_signature, till.stripe.access.webhook_secrets)
    async with parts.database.begin() as session:
        known = await take(session, event, at=parts.now())
    return {"taken": known}
