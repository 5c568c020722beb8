"""A price book: what each token of each model costs, by time window and service tier. Published whole, never changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from headrace_billing.rating.price import SCALE, PriceInvalid, TokenClass, price_text, quantities
from headrace_billing.rating.schedule import Schedule
from headrace_billing.rating.window import HourWindow, check_windows, window_at
from headrace_contracts.access import ModelPrice
from headrace_contracts.usage import ServiceTier, TokenCounts

MULTIPLIER_MAX = 1000 * SCALE

CHANGE_FACTOR_MAX = 50
"""A price that becomes so many times dearer or cheaper at once is rather a slip of the unit or of the point."""


class PriceLine(NamedTuple):
    """Whose quantity is counted and charged as one; all that decides a price of a model."""

    token_class: TokenClass
    window: str = ""
    """Empty outside of all windows in which the model has a price of its own."""
    service_tier: ServiceTier = ServiceTier.STANDARD


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one model."""

    by_class: Mapping[TokenClass, Schedule]
    windows: Mapping[str, int] = field(default_factory=dict)
    """What prices are multiplied by in a window of the book, scaled."""
    batch: int | None = None
    """What prices are multiplied by for batch requests, scaled; null prices them as others."""

    def line(self, token_class: TokenClass, window: str, tier: ServiceTier) -> PriceLine:
        """The line that counts such a token: one of its own only where it has a price of its own."""
        assert not window or window in self.windows, window
        batched = tier is ServiceTier.BATCH and self.batch is not None
        return PriceLine(
            token_class,
            window,
            ServiceTier.BATCH if batched else ServiceTier.STANDARD,
        )

    def schedule(self, line: PriceLine) -> Schedule:
        found = self.by_class[line.token_class]
        if line.window:
            found = found.times(self.windows[line.window])
        if line.service_tier is ServiceTier.BATCH:
            assert self.batch is not None, line
            found = found.times(self.batch)
        return found

    def lines(self) -> list[PriceLine]:
        tiers = [ServiceTier.STANDARD] if self.batch is None else list(ServiceTier)
        return [
            PriceLine(token_class, window, tier)
            for token_class in TokenClass
            for window in ("", *self.windows)
            for tier in tiers
        ]

    def ceiling_rate(
        self, token_class: TokenClass, *, tiers: Collection[ServiceTier] = tuple(ServiceTier)
    ) -> int:
        return max(
            self.schedule(line).ceiling_rate
            for line in self.lines()
            if line.token_class is token_class and line.service_tier in tiers
        )

    def model_price(self) -> ModelPrice:
        """What gateways hold by and count budgets by: the highest rate that could apply.

        Which tier a token reaches is known only when it is posted, and a gateway learns of no window, so any lower
        rate could admit what the wallet can't pay. The difference comes back with the posting, seconds later.
        """
        return self._ceilings(tuple(ServiceTier))

    def batch_price(self) -> ModelPrice | None:
        """The same of a batch's requests; null where these are priced as others."""
        return None if self.batch is None else self._ceilings((ServiceTier.BATCH,))

    def _ceilings(self, tiers: Collection[ServiceTier]) -> ModelPrice:
        return ModelPrice(
            **{kind.value: price_text(self.ceiling_rate(kind, tiers=tiers)) for kind in TokenClass}
        )

    def times(self, weight: int) -> "Prices":
        """Of a model whose every price is this one's times a weight, scaled. Raises `PriceInvalid`."""
        return Prices(
            {kind: schedule.times(weight) for kind, schedule in self.by_class.items()},
            self.windows,
            self.batch,
        )


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a line's quantities cost, with what is asked of it for each of millions of lines."""

    schedule: Schedule
    is_plain: bool
    price: str | None
    """Per 1,000,000, as a decimal; null where it is not plain."""


@dataclass(frozen=True, slots=True)
class PriceBook:
    id: str
    currency: str
    models: Mapping[str, Prices]
    windows: Mapping[str, HourWindow] = field(default_factory=dict)
    org: str | None = None
    """Whose own it is; null for everybody's."""
    tariffs: dict[tuple[str, PriceLine], Tariff] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Those that were asked for: a book never changes."""

    def line(self, model: str, token_class: TokenClass, *, at: datetime, tier: ServiceTier) -> PriceLine:
        return self.models[model].line(token_class, self.window_of(model, at), tier)

    def window_of(self, model: str, at: datetime) -> str:
        """The window that prices the model at that instant; empty for none."""
        prices = self.models[model]
        window = window_at(self.windows, at) if prices.windows else ""
        return window if window in prices.windows else ""

    def schedule(self, model: str, line: PriceLine) -> Schedule:
        return self.tariff(model, line).schedule

    def tariff(self, model: str, line: PriceLine) -> Tariff:
        known = self.tariffs.get((model, line))
        if known is None:
            schedule = self.models[model].schedule(line)
            price = price_text(schedule.tiers[0].price) if schedule.is_plain else None
            known = self.tariffs[model, line] = Tariff(schedule, schedule.is_plain, price)
        return known


def list_attos(tokens: TokenCounts, book: PriceBook, model: str, *, at: datetime, tier: ServiceTier) -> int:
    """Exact list price, before tiers, minimum and maximum; adds up over requests without rounding."""
    return sum(
        quantity * book.schedule(model, book.line(model, kind, at=at, tier=tier)).ceiling_rate
        for kind, quantity in quantities(tokens).items()
        if quantity
    )


def check_book(models: Mapping[str, Prices], windows: Mapping[str, HourWindow]) -> None:
    """Raises `PriceInvalid`, naming the model."""
    check_windows(windows)
    for model, prices in models.items():
        unknown = prices.windows.keys() - windows.keys()
        if unknown:
            raise PriceInvalid(f"{model}: the book has no window {min(unknown)!r}.")
        multipliers = [*prices.windows.values(), *([] if prices.batch is None else [prices.batch])]
        if any(multiplier > MULTIPLIER_MAX for multiplier in multipliers):
            raise PriceInvalid(f"{model}: a multiplier is at most {price_text(MULTIPLIER_MAX)}.")
        for line in prices.lines():
            prices.schedule(line)
        read, fresh = prices.by_class[TokenClass.CACHE_READ], prices.by_class[TokenClass.INPUT_UNCACHED]
        if read.ceiling_rate > fresh.ceiling_rate:
            raise PriceInvalid(
                f"{model}: reading from cache would cost more than not having cached: are the two swapped?"
            )


class PriceChangeSuspicious(PriceInvalid):
    """So large that it is rather a slip; publishing it again with `confirm_large_changes` holds."""

    code = "price_change_suspicious"


def check_changes(before: Mapping[str, Prices], after: Mapping[str, Prices]) -> None:
    """Raises `PriceChangeSuspicious` for a model whose price changes out of all proportion."""
    for model in sorted(before.keys() & after.keys()):
        for kind in TokenClass:
            old, new = before[model].ceiling_rate(kind), after[model].ceiling_rate(kind)
            if old and new and max(old, new) > CHANGE_FACTOR_MAX * min(old, new):
                raise PriceChangeSuspicious(
                    f"{model}: {kind} would go from {price_text(old)} to {price_text(new)}. If that is meant, send "
                    "it with confirm_large_changes."
                )
