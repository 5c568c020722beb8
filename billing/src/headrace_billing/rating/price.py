"""Prices and charges, in integers from end to end.

A price is kept as its decimal per 1,000,000 tokens, scaled by 10^12; so tokens times price is exact in units of
10^-18 of the currency (attos), and a charge is that, rounded once to nano-units.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_contracts.access import ModelPrice
from headrace_contracts.usage import TokenCounts

PLACES_MAX = 12
SCALE = 10**PLACES_MAX
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
    """Not a plain decimal that a price book can keep exactly."""

    code = "price_invalid"

    def __init__(self, price: str) -> None:
        super().__init__(f"{price!r} is no plain decimal of at most 9 digits and {PLACES_MAX} places.")


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one model, per 1,000,000 tokens, scaled by 10^12."""

    by_class: Mapping[TokenClass, int]

    def model_price(self) -> ModelPrice:
        return ModelPrice(**{kind.value: price_text(self.by_class[kind]) for kind in TokenClass})


@dataclass(frozen=True, slots=True)
class PriceBook:
    id: str
    currency: str
    models: Mapping[str, Prices]


def parse_price(price: str) -> int:
    """`"0.6"` → 600 000 000 000. Raises `PriceInvalid`."""
    if not PRICE_PATTERN.fullmatch(price):
        raise PriceInvalid(price)
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


def quantities(tokens: TokenCounts) -> dict[TokenClass, int]:
    """Each token once, in the class that it is priced by."""
    return {
        TokenClass.INPUT_UNCACHED: tokens.input_uncached,
        TokenClass.CACHE_READ: tokens.cache_read,
        TokenClass.CACHE_WRITE: tokens.cache_write,
        TokenClass.OUTPUT: tokens.output,
    }


def list_attos(tokens: TokenCounts, prices: Prices) -> int:
    """Exact list price; adds up over requests without rounding."""
    return sum(quantity * prices.by_class[kind] for kind, quantity in quantities(tokens).items())


def charge_nanos(quantity: int, price: int) -> int:
    """Of a cumulative quantity: rounded once, half away from zero."""
    assert quantity >= 0, f"a cumulative quantity of {quantity}"
    return (2 * quantity * price + ATTOS_PER_NANO) // (2 * ATTOS_PER_NANO)


def parse_prices(prices: Iterable[tuple[TokenClass, str]]) -> Prices:
    return Prices({kind: parse_price(price) for kind, price in prices})
