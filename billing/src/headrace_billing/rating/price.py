"""What tokens are priced by, in integers from end to end.

A price is kept as its decimal per 1,000,000 tokens, scaled by 10^12; so tokens times price is exact in units of
10^-18 of the currency (attos).
"""

import re
from decimal import Decimal
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_contracts.usage import TokenCounts

PLACES_MAX = 12
SCALE: int = 10**PLACES_MAX
ATTOS_PER_NANO = 10**9

PRICE_PATTERN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
"""At most 12 places, as the price book stores, and less than a thousand major units a token."""


class TokenClass(StrEnum):
    """What has a price of its own. Reasoning is output."""

    INPUT_UNCACHED = "input_uncached"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    OUTPUT = "output"


class PriceInvalid(BillingError):
    """Not a price that a book can keep and rate exactly."""

    code = "price_invalid"


def parse_price(price: str) -> int:
    """`"0.6"` → 600 000 000 000. Raises `PriceInvalid`."""
    if not PRICE_PATTERN.fullmatch(price):
        raise PriceInvalid(f"{price!r} is no plain decimal of at most 9 digits and {PLACES_MAX} places.")
    return scaled(Decimal(price))


def scaled(price: Decimal) -> int:
    """A price as the database keeps it, scaled."""
    whole = int(price.scaleb(PLACES_MAX))
    assert Decimal(whole).scaleb(-PLACES_MAX) == price, f"{price} has more than {PLACES_MAX} places"
    return whole


def price_text(price: int) -> str:
    """The shortest decimal: 600 000 000 000 → `"0.6"`."""
    whole, fraction = divmod(price, SCALE)
    places = f"{fraction:012d}".rstrip("0")
    return f"{whole}.{places}" if places else str(whole)


def times(price: int, multiplier: int) -> int:
    """Both scaled. Raises `PriceInvalid` where the product has more places than a book keeps."""
    product, rest = divmod(price * multiplier, SCALE)
    if rest:
        raise PriceInvalid(
            f"{price_text(price)} times {price_text(multiplier)} has more than {PLACES_MAX} places: round the price."
        )
    return product


def quantities(tokens: TokenCounts) -> dict[TokenClass, int]:
    """Each token once, in the class that it is priced by."""
    return {
        TokenClass.INPUT_UNCACHED: tokens.input_uncached,
        TokenClass.CACHE_READ: tokens.cache_read,
        TokenClass.CACHE_WRITE: tokens.cache_write,
        TokenClass.OUTPUT: tokens.output,
    }


def nanos_of_attos(attos: int) -> int:
    """Rounded half away from zero; of what is never negative."""
    assert attos >= 0, attos
    return (2 * attos + ATTOS_PER_NANO) // (2 * ATTOS_PER_NANO)
