"""How much one top-up may be, by currency, in minor units as Stripe counts them.

Only currencies whose minor unit is the same for Stripe and ISO 4217: elsewhere the same number is another amount
(https://docs.stripe.com/currencies). The least is well above Stripe's own minimum, so that a fixed fee does not eat
it; the most bounds what one stolen card can do.
"""

from dataclasses import dataclass
from datetime import timedelta

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.payments.stripe_api import BANK_TRANSFERS
from headrace_billing.payments.top_up import Way

OPEN_MAX = 5
"""Top-ups of one organisation that wait for payment."""

# How long each way waits for whoever must do something.
WAITS = {
    # A link that nobody used is worth nothing afterwards. Stripe takes 30 minutes to 24 hours.
    Way.CHECKOUT: timedelta(hours=1),
    Way.SETUP: timedelta(hours=1),
    # Until the money must be there; the page itself is closed after a day at most.
    Way.BANK_TRANSFER: timedelta(days=30),
    # For the customer to authenticate; somebody asleep may do it in the morning.
    Way.CARD: timedelta(hours=20),
    Way.AUTO: timedelta(hours=20),
}
PAGE_OPEN_MAX = timedelta(hours=23)


@dataclass(frozen=True, slots=True)
class Bounds:
    least_minor: int
    most_minor: int
    step_minor: int = 1
    """Stripe takes currencies of three decimals in steps of ten."""


BOUNDS = {
    "USD": Bounds(5_00, 10_000_00),
    "EUR": Bounds(5_00, 10_000_00),
    "GBP": Bounds(5_00, 10_000_00),
    "CHF": Bounds(5_00, 10_000_00),
    "SGD": Bounds(5_00, 10_000_00),
    "CNY": Bounds(30_00, 70_000_00),
    "JPY": Bounds(500, 1_500_000),
    "KWD": Bounds(2_000, 3_000_000, step_minor=10),
}


class TopUpOutOfBounds(BillingError):
    """Too little, too much, or between two minor units."""

    code = "top_up_out_of_bounds"


class TopUpCurrencyUnsupported(BillingError):
    """Nobody can top up in that currency, or not in that way."""

    code = "top_up_currency_unsupported"

    def __init__(self, currency: str, way: Way) -> None:
        taken = sorted(BANK_TRANSFERS) if way is Way.BANK_TRANSFER else sorted(BOUNDS)
        super().__init__(f"Top-ups by {way} are taken in {', '.join(taken)}; not in {currency}.")


class TooManyOpenTopUps(BillingError):
    """Pay or cancel one of those that wait."""

    code = "too_many_open_top_ups"

    def __init__(self) -> None:
        super().__init__(f"{OPEN_MAX} top-ups wait to be paid already: pay or cancel one of them first.")


def takes(currency: str, way: Way) -> bool:
    return currency in (BANK_TRANSFERS if way is Way.BANK_TRANSFER else BOUNDS)


def bounded_minor(nanos: int, currency: str, way: Way) -> int:
    """Raises `TopUpOutOfBounds` or `TopUpCurrencyUnsupported`."""
    if not takes(currency, way):
        raise TopUpCurrencyUnsupported(currency, way)
    bounds = BOUNDS[currency]
    minor, rest = divmod(nanos, nanos_per_minor(currency))
    if rest or minor % bounds.step_minor or not bounds.least_minor <= minor <= bounds.most_minor:
        raise TopUpOutOfBounds(
            f"A top-up is from {plain(bounds.least_minor, currency)} to {plain(bounds.most_minor, currency)} "
            f"{currency}, in steps of {plain(bounds.step_minor, currency)}."
        )
    return minor
