"""A payment of a customer's through Stripe, and what we make of what Stripe says of it.

Most are top-ups, money paid ahead for a wallet; the others pay an invoice, or the first period of a plan.

    creating → open → paid | expired | refused | quarantined
    creating → refused | expired

It moves forward only, and only by what was fetched from Stripe. Whatever does not fit what was asked for is put in
quarantine: the money is there and nobody was granted anything, until a person has looked.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headrace_billing.payments.money_seen import CheckoutSeen, CheckoutStatus, PaymentSeen


class Way(StrEnum):
    CHECKOUT = "checkout"  # the customer pays on Stripe's page, by card
    BANK_TRANSFER = "bank_transfer"  # Stripe's page says where to send the money to
    CARD = "card"  # a saved card, because somebody asked for it
    AUTO = "auto"  # a saved card, because the balance fell
    SETUP = "setup"  # Stripe's page keeps a card, and nothing is paid yet


def way_of(card: str | None, *, bank_transfer: bool) -> Way:
    """Of what a customer asks for."""
    if card is not None:
        return Way.CARD
    return Way.BANK_TRANSFER if bank_transfer else Way.CHECKOUT


ON_STRIPES_PAGE = frozenset({Way.CHECKOUT, Way.BANK_TRANSFER, Way.SETUP})


class TopUpState(StrEnum):
    CREATING = "creating"  # noted here, perhaps not known to Stripe
    OPEN = "open"  # waits for the customer, or for the customer's bank
    PAID = "paid"  # and granted, or taken from what is due: one never without the other
    EXPIRED = "expired"  # nothing was paid and nothing can be
    REFUSED = "refused"  # Stripe would not take it, or the bank would not pay it
    QUARANTINED = "quarantined"  # something was paid that is not what was asked for


WAITING = frozenset({TopUpState.CREATING, TopUpState.OPEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    id: str
    org: str
    wallet: str | None
    """What it fills with credit; null where it pays an invoice or a sign-up."""
    invoice: str | None
    sign_up: str | None
    """What it pays the first period of; its invoice comes later."""
    currency: str
    amount_minor: int
    way: Way
    card: str | None
    """Stripe's payment method, for a saved card."""
    save_card: bool
    """Whether the card is kept for later, which Stripe's page tells the customer."""
    state: TopUpState
    session: str | None
    url: str | None
    """Where the customer pays, or authenticates the payment."""
    payment: str | None
    lot: str | None
    reason: str | None
    settled: bool
    """Whether Stripe's fee is posted."""
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    state: TopUpState
    reason: str | None = None
    card: str | None = None
    """What it was paid with, or kept."""


def judged(top_up: TopUp, seen: CheckoutSeen) -> Verdict:
    """What Stripe's session makes of a top-up that waits."""
    if seen.reference != top_up.id:
        return Verdict(TopUpState.QUARANTINED, "reference_differs")
    if seen.status is CheckoutStatus.EXPIRED:
        return Verdict(TopUpState.EXPIRED)
    if top_up.way is Way.SETUP:
        return Verdict(TopUpState.OPEN if seen.card is None else TopUpState.PAID, card=seen.card)
    if seen.status is CheckoutStatus.OPEN or not seen.paid:
        # Complete and unpaid: a bank transfer that is on its way.
        return _failed(seen) or Verdict(TopUpState.OPEN)
    if seen.payment is None or not seen.payment.succeeded:
        return Verdict(TopUpState.QUARANTINED, "paid_without_payment")
    if {seen.currency, seen.payment.currency} != {top_up.currency}:
        return Verdict(TopUpState.QUARANTINED, "currency_differs")
    if {seen.amount_minor, seen.payment.amount_minor} != {top_up.amount_minor}:
        return Verdict(TopUpState.QUARANTINED, "amount_differs")
    return Verdict(TopUpState.PAID, card=seen.payment.card)


def judged_payment(top_up: TopUp, seen: PaymentSeen) -> Verdict:
    """What the payment by a saved card makes of a top-up that waits."""
    if seen.reference != top_up.id:
        return Verdict(TopUpState.QUARANTINED, "reference_differs")
    if seen.status == "canceled":
        return Verdict(TopUpState.EXPIRED, "not_authenticated")
    if seen.status == "requires_payment_method":
        return Verdict(TopUpState.REFUSED, seen.refusal or "card_declined")
    if not seen.succeeded:
        return Verdict(TopUpState.OPEN)
    if seen.currency != top_up.currency:
        return Verdict(TopUpState.QUARANTINED, "currency_differs")
    if seen.amount_minor != top_up.amount_minor:
        return Verdict(TopUpState.QUARANTINED, "amount_differs")
    return Verdict(TopUpState.PAID)


def _failed(seen: CheckoutSeen) -> Verdict | None:
    """A complete session takes no second try, so a payment that failed after it is the end."""
    if seen.status is not CheckoutStatus.COMPLETE or seen.payment is None:
        return None
    return Verdict(TopUpState.EXPIRED, "payment_failed") if seen.payment.status in FAILED else None


FAILED = frozenset({"canceled", "requires_payment_method"})

# Webhooks tell at once; looking is for those that never come. A bank transfer may take days.
LOOKS = (
    (timedelta(minutes=10), timedelta(seconds=30)),
    (timedelta(hours=2), timedelta(minutes=5)),
    (timedelta(days=2), timedelta(hours=1)),
)
LOOK_RARELY = timedelta(hours=6)


def next_look(age: timedelta) -> timedelta:
    """How long from now, for something that has waited for `age`."""
    return next((pause for until, pause in LOOKS if age < until), LOOK_RARELY)
