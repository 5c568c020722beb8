"""Amounts: integers of nano-units inside, decimal strings of major units outside, and no float anywhere.

A nano-unit is 10⁻⁹ of the currency's major unit (dollar, yen), whatever the currency's minor unit is.
"""

import re

from babel.numbers import list_currencies

from headrace_billing.errors import BillingError

NANOS_PER_MAJOR = 1_000_000_000
NANOS_PER_MICRO = 1_000
PLACES_MAX = 9

AMOUNT_MAX_MAJOR = 1_000_000_000
"""Of one amount that a caller may name. Above all honest ones, and far below what a script can count."""

MICROS_MAX = 2**53
"""Valkey's scripts count in doubles, which are exact for integers below this."""

PLAIN_DECIMAL = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,20}))?")


class AmountInvalid(BillingError):
    """Not a positive plain decimal of the size and precision that the ledger keeps."""

    code = "amount_invalid"


class CurrencyUnknown(BillingError):
    """Not an ISO 4217 code."""

    code = "currency_unknown"

    def __init__(self, currency: str) -> None:
        super().__init__(f"{currency!r} is no ISO 4217 currency code.")


def currency_of(code: str) -> str:
    """`code` itself. Raises `CurrencyUnknown`."""
    if code not in CURRENCIES:
        raise CurrencyUnknown(code)
    return code


def nanos_of(amount: str) -> int:
    """`"5.00"` → 5 000 000 000. Raises `AmountInvalid` rather than rounding."""
    parts = PLAIN_DECIMAL.fullmatch(amount)
    if parts is None:
        raise AmountInvalid(f"{amount!r} is no plain decimal number such as 12.50.")
    whole, places = parts[1], (parts[2] or "").rstrip("0")
    if len(places) > PLACES_MAX:
        raise AmountInvalid(f"{amount!r} has more than {PLACES_MAX} decimal places.")
    nanos = int(whole) * NANOS_PER_MAJOR + int(places.ljust(PLACES_MAX, "0"))
    if not 0 < nanos <= AMOUNT_MAX_MAJOR * NANOS_PER_MAJOR:
        raise AmountInvalid(f"{amount!r} must be positive and at most {AMOUNT_MAX_MAJOR}.")
    return nanos


def major(nanos: int) -> str:
    """5 000 000 000 → `"5.00"`: exact, with at least two places and no more than needed."""
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), NANOS_PER_MAJOR)
    places = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{places}"


def micros_floor(nanos: int) -> int:
    """Micro-units for Valkey: a balance is rounded down, so that nobody spends what is not there."""
    micros = nanos // NANOS_PER_MICRO
    assert abs(micros) < MICROS_MAX, f"{micros} micro-units can't be counted by a script"
    return micros


CURRENCIES = frozenset(list_currencies())
