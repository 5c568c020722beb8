"""What Stripe says of money, in our words: frozen views of its objects with only what we decide by.

Amounts are integers of the currency's minor unit, currencies upper case. Nothing here asks; `stripe_api` fills it.
"""

from dataclasses import dataclass
from enum import StrEnum


class CheckoutStatus(StrEnum):
    OPEN = "open"
    COMPLETE = "complete"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Settlement:
    """A balance transaction: how much an event really moved in Stripe's books, and what Stripe kept of it."""

    id: str
    amount_minor: int
    """Positive is ours; before the fee."""
    fee_minor: int
    """Negative gives a fee back."""
    currency: str
    """The account's own, which need not be the customer's."""


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    id: str
    status: str
    amount_minor: int
    """Received, not asked for."""
    currency: str
    reference: str | None
    """Ours, from the metadata."""
    refusal: str | None
    """Why the bank said no when it was last asked: Stripe's decline code."""
    authenticate_url: str | None
    """Where the customer proves to the bank who they are, while that is what is missing."""
    settlement: Settlement | None
    """Null until Stripe has booked it."""
    card: str | None = None
    """The payment method, where it was one."""

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def needs_authentication(self) -> bool:
        """The bank wants to see the customer, who was not there."""
        return self.status == "requires_payment_method" and self.refusal == "authentication_required"


@dataclass(frozen=True, slots=True)
class CardSeen:
    """A card that Stripe keeps for us; what we know of it can't pay for anything."""

    id: str
    customer: str | None
    brand: str
    last4: str
    expires: str
    """`2034-12`, as printed on it."""


@dataclass(frozen=True, slots=True)
class CheckoutSeen:
    id: str
    status: CheckoutStatus
    paid: bool
    reference: str | None
    amount_minor: int | None
    currency: str
    url: str | None
    payment: PaymentSeen | None
    card: str | None = None
    """What was given to be kept, where nothing was to be paid."""


@dataclass(frozen=True, slots=True)
class RefundSeen:
    id: str
    status: str
    reference: str | None
    settlement: Settlement | None
    returned: Settlement | None
    """The money coming back after a refund that failed late."""


@dataclass(frozen=True, slots=True)
class DisputeSeen:
    id: str
    payment: str | None
    status: str
    reason: str
    amount_minor: int
    currency: str
    created: int
    settlements: tuple[Settlement, ...]
    """What was withdrawn (negative) and reinstated (positive), in the order in which it happened."""
