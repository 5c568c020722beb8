"""Stripe's page, and the customer before it."""

from typing import Any

from tests.billing.seller import Document
from tests.support.stripe import world
from tests.support.stripe.server import FakeStripe


def session_of(fake: FakeStripe, top_up: Document) -> str:
    """The session whose page the customer was sent to."""
    sessions = fake.account.listed("checkout.session", client_reference_id=top_up["id"])
    (session,) = (each for each in sessions if each["url"] == top_up["url"])
    return str(session["id"])


def pay(fake: FakeStripe, top_up: Document, **otherwise: Any) -> None:
    world.pay(fake.account, session_of(fake, top_up), **otherwise)
