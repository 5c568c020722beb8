"""Stripe's test cards, and what each of them does (https://docs.stripe.com/testing)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    number: str
    method: str
    """What a test account of Stripe's calls it: a payment method that can be attached by this name."""
    decline: str | None = None
    """Stripe's `decline_code` for every charge."""
    off_session_needs_authentication: bool = False

    @property
    def last4(self) -> str:
        return self.number[-4:]


VISA = Card("4242424242424242", "pm_card_visa")
# Can be kept, and then declines each charge.
DECLINED = Card("4000000000000341", "pm_card_chargeCustomerFail", decline="generic_decline")
# Set up with authentication, it needs none afterwards (…3155); this one asks each time.
ALWAYS_AUTHENTICATES = Card(
    "4000002760003184", "pm_card_authenticationRequired", off_session_needs_authentication=True
)

TEST_CARDS = (VISA, DECLINED, ALWAYS_AUTHENTICATES)
