"""What Stripe's webhooks hint at. Each is noted before it is answered; nothing in it is believed but where to look.

Events come in any order, twice, late or never, so a hint only brings forward the moment at which the object is asked
of Stripe. What was received is kept without its contents, which hold names and addresses of customers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError
from headrace_billing.payments import dispute_store, refund_store, top_up_store

# As Stripe's own libraries have it.
TOLERANCE_SECONDS = 300

TOP_UP_KINDS = ("checkout.session.", "payment_intent.", "charge.updated", "charge.succeeded")
REFUND_KINDS = ("refund.", "charge.refund.updated")
DISPUTE_KINDS = ("charge.dispute.",)


class WebhookUnsigned(BillingError):
    """Whoever sent it isn't Stripe, or a secret is missing here."""

    code = "webhook_unsigned"

    def __init__(self) -> None:
        super().__init__(
            "Stripe-Signature is missing or fits the body by none of the endpoint's secrets: "
            "compare HEADRACE_BILLING_STRIPE_WEBHOOK_SECRETS with the endpoint's at Stripe."
        )


class WebhookStale(BillingError):
    """Rightly signed, but long ago: replayed, or a clock is wrong."""

    code = "webhook_stale"

    def __init__(self) -> None:
        super().__init__(
            f"The event was signed more than {TOLERANCE_SECONDS} s ago. Stripe signs each delivery anew: "
            "if it comes from there, this machine's clock is wrong."
        )


@dataclass(frozen=True, slots=True)
class Event:
    """What a webhook says. Only a hint: its ids tell where to look, its contents are never believed."""

    id: str
    kind: str
    about: str
    """The object's id."""
    references: tuple[str, ...]
    """Ids of ours, and of the payment: an event can come before we know the object's own id."""


def verified(body: bytes, signature: str, secrets: Sequence[str]) -> Event:
    """Raises `WebhookUnsigned` or `WebhookStale` unless a secret signed exactly this body a moment ago."""
    for secret in secrets:
        if _signed(body, signature, secret, tolerance=TOLERANCE_SECONDS):
            return _event(body)
        if _signed(body, signature, secret, tolerance=None):
            raise WebhookStale
    raise WebhookUnsigned


def _signed(body: bytes, signature: str, secret: str, *, tolerance: int | None) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body.decode(), signature, secret, tolerance)
    except (stripe.SignatureVerificationError, ValueError):
        return False
    return True


def _event(body: bytes) -> Event:
    told: Any = json.loads(body)
    about = told["data"]["object"]
    metadata = about.get("metadata") or {}
    payment = about.get("payment_intent")
    references = (
        about.get("client_reference_id"),
        payment.get("id") if isinstance(payment, dict) else payment,
        metadata.get("top_up"),
        metadata.get("refund"),
    )
    return Event(
        id=told["id"],
        kind=told["type"],
        about=about.get("id") or "",
        references=tuple(each for each in references if isinstance(each, str)),
    )


async def take(session: AsyncSession, event: Event, *, at: datetime) -> bool:
    """Whether it is of a kind that means something here."""
    known = event.kind.startswith((*TOP_UP_KINDS, *REFUND_KINDS, *DISPUTE_KINDS))
    await session.execute(
        INSERT, {"id": event.id, "kind": event.kind, "about": event.about, "known": known, "at": at}
    )
    ids = [event.about, *event.references]
    if event.kind.startswith(DISPUTE_KINDS):
        await dispute_store.hint(session, event.about, at=at)
    elif event.kind.startswith(REFUND_KINDS):
        await refund_store.hint(session, ids, at=at)
    elif known:
        await top_up_store.hint(session, ids=ids, at=at)
    return known


INSERT = text("""
    INSERT INTO stripe_events (id, kind, about, known, received_at) VALUES (:id, :kind, :about, :known, :at)
    ON CONFLICT (id) DO UPDATE SET times = stripe_events.times + 1
""")
