"""How a quantity becomes a charge: flat, graduated, volume and package prices, with a minimum and a maximum.

Every charge is a function of the cumulative quantity of one line in one month, and of whether that month's account
is closed: what is billed is always the difference to what was billed before. While a month is open, no token can
add more than `ceiling_rate`: gateways hold by that rate, so a hold is never too small. What could not be held for,
the minimum and the rest of the package begun last, is therefore charged when the month's account is closed.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from headrace_billing.money import major
from headrace_billing.rating.price import PriceInvalid, nanos_of_attos, price_text, times

TIERS_MAX = 20
PACKAGE_TOKENS_MAX = 10**12
TOKENS_PER_PRICE = 1_000_000
SCALED_TO_ATTOS = TOKENS_PER_PRICE
"""An amount scaled by 10^12 is so many attos times this."""


class ScheduleKind(StrEnum):
    FLAT = "flat"  # one price for every token
    GRADUATED = "graduated"  # each tier's tokens at the tier's price
    VOLUME = "volume"  # all tokens at the price of the tier that the quantity reaches
    PACKAGE = "package"  # whole packages; the one begun last is rounded up at the close


@dataclass(frozen=True, slots=True)
class Tier:
    up_to: int | None
    """The last token that belongs to it; null in the last tier."""
    price: int
    """Scaled: per 1,000,000 tokens, or of one package."""


@dataclass(frozen=True, slots=True)
class Schedule:
    kind: ScheduleKind
    tiers: tuple[Tier, ...]
    package_tokens: int | None = None
    minimum_nanos: int | None = None
    """Charged at least for a month in which the line was used at all, at its close."""
    maximum_nanos: int | None = None
    """Charged at most for a month."""

    @property
    def ceiling_rate(self) -> int:
        """What a token adds at most while the month is open, scaled, per 1,000,000; also the list price."""
        highest = max(tier.price for tier in self.tiers)
        if self.package_tokens is None:
            return highest
        return highest * TOKENS_PER_PRICE // self.package_tokens

    @property
    def is_plain(self) -> bool:
        """Whether quantity times one price is the whole truth."""
        return self.kind is ScheduleKind.FLAT and self.minimum_nanos is None and self.maximum_nanos is None

    @property
    def waits_for_the_close(self) -> bool:
        """Whether closing a month's account can add to its charge."""
        return self.kind is ScheduleKind.PACKAGE or self.minimum_nanos is not None

    def times(self, multiplier: int) -> "Schedule":
        """Prices multiplied, scaled; minimum and maximum are amounts of their own. Raises `PriceInvalid`."""
        tiers = tuple(Tier(tier.up_to, times(tier.price, multiplier)) for tier in self.tiers)
        return checked(replace(self, tiers=tiers))


def flat(price: int) -> Schedule:
    return Schedule(ScheduleKind.FLAT, (Tier(None, price),))


def charge_nanos(quantity: int, schedule: Schedule, *, closed: bool = False) -> int:
    """Of a month's cumulative quantity: rounded once, half away from zero, then held between minimum and maximum."""
    assert quantity >= 0, f"a cumulative quantity of {quantity}"
    nanos = nanos_of_attos(_attos(quantity, schedule, closed=closed))
    if closed and quantity and schedule.minimum_nanos is not None:
        nanos = max(nanos, schedule.minimum_nanos)
    return nanos if schedule.maximum_nanos is None else min(nanos, schedule.maximum_nanos)


def checked(schedule: Schedule) -> Schedule:
    """The schedule itself. Raises `PriceInvalid`, which names what can't be."""
    _check_tiers(schedule)
    if (schedule.kind is ScheduleKind.PACKAGE) != (schedule.package_tokens is not None):
        raise PriceInvalid("A package price has package_tokens, and no other price has.")
    if schedule.package_tokens is not None:
        if not 1 <= schedule.package_tokens <= PACKAGE_TOKENS_MAX:
            raise PriceInvalid(f"package_tokens must be from 1 to {PACKAGE_TOKENS_MAX}.")
        if schedule.tiers[0].price * TOKENS_PER_PRICE % schedule.package_tokens:
            raise PriceInvalid(
                f"{price_text(schedule.tiers[0].price)} for {schedule.package_tokens} tokens is no exact price of "
                "1,000,000 tokens: choose a size such as 1000, or another price."
            )
    low, high = schedule.minimum_nanos, schedule.maximum_nanos
    if low is not None and high is not None and low > high:
        raise PriceInvalid(f"The minimum charge {major(low)} is above the maximum charge {major(high)}.")
    return schedule


def _check_tiers(schedule: Schedule) -> None:
    tiers = schedule.tiers
    tiered = schedule.kind in (ScheduleKind.GRADUATED, ScheduleKind.VOLUME)
    if not 1 <= len(tiers) <= (TIERS_MAX if tiered else 1):
        raise PriceInvalid(
            f"A {schedule.kind} price has {f'1 to {TIERS_MAX} tiers' if tiered else 'one price'}."
        )
    if tiers[-1].up_to is not None or any(tier.up_to is None for tier in tiers[:-1]):
        raise PriceInvalid("The last tier, and it alone, has no up_to: every quantity has its tier.")
    borders = [0, *(tier.up_to for tier in tiers if tier.up_to is not None)]
    if any(later <= earlier for earlier, later in pairwise(borders)):
        raise PriceInvalid("Tiers overlap: each up_to must be above the one before it.")
    if schedule.kind is ScheduleKind.VOLUME and any(
        later.price > earlier.price for earlier, later in pairwise(tiers)
    ):
        raise PriceInvalid(
            "A volume price must not rise from tier to tier: one token would then charge all earlier ones once "
            "more, and no hold could cover it. Use graduated tiers."
        )


def _attos(quantity: int, schedule: Schedule, *, closed: bool) -> int:
    match schedule.kind:
        case ScheduleKind.FLAT:
            return quantity * schedule.tiers[0].price
        case ScheduleKind.GRADUATED:
            return _graduated(quantity, schedule.tiers)
        case ScheduleKind.VOLUME:
            reached = next(t for t in schedule.tiers if t.up_to is None or quantity <= t.up_to)
            return quantity * reached.price
        case ScheduleKind.PACKAGE:
            assert schedule.package_tokens is not None
            if closed:
                packages = -(-quantity // schedule.package_tokens)
                return packages * schedule.tiers[0].price * SCALED_TO_ATTOS
            return quantity * schedule.ceiling_rate


def _graduated(quantity: int, tiers: tuple[Tier, ...]) -> int:
    attos, below = 0, 0
    for tier in tiers:
        end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        attos += max(end - below, 0) * tier.price
        below = max(end, below)
    return attos
