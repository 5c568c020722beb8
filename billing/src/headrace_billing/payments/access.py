"""What connects billing to a Stripe account; without all of it nothing here works, and everything else does."""

from dataclasses import dataclass, field

from headrace_billing.errors import BillingError


class PaymentsNotConfigured(BillingError):
    """No Stripe account is connected."""

    code = "payments_not_configured"

    def __init__(self) -> None:
        super().__init__(
            "No Stripe account is connected. Set HEADRACE_BILLING_STRIPE_API_KEY, "
            "HEADRACE_BILLING_STRIPE_WEBHOOK_SECRETS and "
            "HEADRACE_BILLING_PAYMENTS_RETURN_URL for billing's API and worker, and start them again."
        )


class PaymentsUnavailable(BillingError):
    """Stripe can't be reached, is busy or fails; whether it did what was asked is found out later."""

    code = "payments_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Stripe does not answer at this moment; send the same request with the same key again."
        )


class PaymentRefused(BillingError):
    """Stripe says no, and nothing was done."""

    code = "payment_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Stripe refused: {reason}.")
        self.reason = reason


class PaymentDeclined(PaymentRefused):
    """The customer's bank says no, and nothing was paid."""

    code = "payment_declined"

    def __init__(self, reason: str, *, payment: str | None) -> None:
        super().__init__(reason)
        self.payment = payment
        """The payment that Stripe keeps of it."""


@dataclass(frozen=True, slots=True)
class StripeAccess:
    api_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    """More than one while a secret is rotated: a signature by any of them counts."""
    api_url: str
    return_url: str
    """Where Checkout sends the customer afterwards."""
