"""What tokens cost, in whole micro-units of the currency, rounded up: for holds, never for a bill.

Prices are decimal strings per 1,000,000 tokens with at most 12 places. As integers scaled by 10^12 they
make a token cost `price` units of 10^-18, so micro-units are the sum of tokens * price, over 10^12, exactly.
"""

from dataclasses import dataclass
from decimal import Decimal

from headrace_contracts.access import ModelPrice
from headrace_contracts.usage import TokenCounts

PLACES_MAX = 12
SCALE: int = 10**PLACES_MAX

# Above it a Lua number is no longer exact. Nine billion of a currency: an amount beyond is our mistake.
MICROS_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """Scaled by `SCALE`, per 1,000,000 tokens."""

    input_uncached: int
    cache_read: int
    cache_write: int
    output: int

    @property
    def input_max(self) -> int:
        """What a prompt token costs at most, while nobody knows how much of it is cached."""
        return max(self.input_uncached, self.cache_read, self.cache_write)


def parse_price(text: str) -> int:
    scaled = Decimal(text) * SCALE
    assert scaled.is_finite(), text
    assert scaled >= 0, text
    assert scaled == int(scaled), f"{text} has more than {PLACES_MAX} places"
    return int(scaled)


def parse_prices(price: ModelPrice) -> UnitPrices:
    return UnitPrices(
        input_uncached=parse_price(price.input_uncached),
        cache_read=parse_price(price.cache_read),
        cache_write=parse_price(price.cache_write),
        output=parse_price(price.output),
    )


def input_value(prices: UnitPrices, counts: TokenCounts) -> int:
    """Exact, in 10^-18 of the currency."""
    return (
        counts.input_uncached * prices.input_uncached
        + counts.cache_read * prices.cache_read
        + counts.cache_write * prices.cache_write
    )


def cost_micros(prices: UnitPrices, counts: TokenCounts) -> int:
    return micros(input_value(prices, counts) + counts.output * prices.output)


def micros(value: int) -> int:
    """Rounds an exact value up to micro-units."""
    amount = -(-value // SCALE)
    assert 0 <= amount <= MICROS_MAX, amount
    return amount


def output_tokens_payable(prices: UnitPrices, *, input_value: int, micros: int) -> int | None:
    """How many output tokens an amount pays beside the input; null when they are free."""
    left = micros * SCALE - input_value
    if left < 0:
        return 0
    return None if prices.output == 0 else left // prices.output
