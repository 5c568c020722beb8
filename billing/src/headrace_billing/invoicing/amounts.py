"""Rounding to what can be paid: once, at the invoice line, half away from zero, and in integers only."""

from functools import cache

from babel.numbers import get_currency_precision

from headrace_billing.money import NANOS_PER_MAJOR, AmountInvalid, nanos_of
from headrace_billing.rating.price import ATTOS_PER_NANO


@cache
def minor_digits(currency: str) -> int:
    """Decimal places of the currency's minor unit: 2 for USD, 0 for JPY, 3 for KWD."""
    return int(get_currency_precision(currency))


@cache
def nanos_per_minor(currency: str) -> int:
    digits = minor_digits(currency)
    return NANOS_PER_MAJOR // int(10**digits)


@cache
def _attos_per_minor(currency: str) -> int:
    return nanos_per_minor(currency) * ATTOS_PER_NANO


def divided_half_away(numerator: int, denominator: int) -> int:
    """The nearest integer; of two equally near ones the one that is further from zero."""
    assert denominator > 0, denominator
    magnitude, rest = divmod(abs(numerator), denominator)
    magnitude += 2 * rest >= denominator
    return -magnitude if numerator < 0 else magnitude


def minor_of_nanos(nanos: int, currency: str) -> int:
    return divided_half_away(nanos, nanos_per_minor(currency))


def minor_of_tokens(tokens: int, price: int, currency: str) -> int:
    """The charge in minor units, rounded from the exact product; `price` as `rating.price` scales it."""
    return divided_half_away(tokens * price, _attos_per_minor(currency))


def minor_of(amount: str, currency: str) -> int:
    """Of a positive amount as it is written. Raises `AmountInvalid` for what nobody can pay in that currency."""
    minor, rest = divmod(nanos_of(amount), nanos_per_minor(currency))
    if rest:
        raise AmountInvalid(f"{amount!r} has more decimal places than {currency} has.")
    return minor


def plain(minor: int, currency: str) -> str:
    """`-1234` → `"-12.34"`, for programs; people get Babel's form."""
    digits = minor_digits(currency)
    sign = "-" if minor < 0 else ""
    whole, fraction = divmod(abs(minor), int(10**digits))
    return f"{sign}{whole}.{fraction:0{digits}d}" if digits else f"{sign}{whole}"
