"""What a caller sends to publish prices, and what becomes of it before anything is stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from headrace_billing.bodies import Amount, Body, Currency, Id, ModelName
from headrace_billing.intervals import utc
from headrace_billing.rating.book import Prices
from headrace_billing.rating.definition import prices_of, windows_of
from headrace_billing.rating.price import PriceInvalid, parse_price
from headrace_billing.rating.schedule import PACKAGE_TOKENS_MAX, TIERS_MAX
from headrace_billing.rating.store import Overrides
from headrace_billing.rating.window import DAY_MINUTES, WINDOWS_MAX, HourWindow

MODELS_MAX = 200
TOKENS_MAX = 10**15
# Zones lie between -12 and +14 hours.
OFFSET_MINUTES_MAX = 14 * 60

Minute = Annotated[int, Field(ge=0, le=DAY_MINUTES)]


class TierBody(Body):
    up_to: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    """The last token of a month that belongs to the tier; null in the last one."""
    price: Amount


class ScheduleBody(Body):
    kind: Literal["flat", "graduated", "volume", "package"]
    price: Amount | None = None
    tiers: Annotated[list[TierBody], Field(min_length=1, max_length=TIERS_MAX)] | None = None
    package_tokens: Annotated[int, Field(ge=1, le=PACKAGE_TOKENS_MAX)] | None = None
    minimum_charge: Amount | None = None
    maximum_charge: Amount | None = None


Price = Amount | ScheduleBody
"""Per 1,000,000 tokens, a decimal string of at most 12 places; or an object that names its kind."""


class PricesBody(Body):
    input_uncached: Price
    cache_read: Price
    cache_write: Price
    output: Price
    windows: Annotated[dict[Id, Amount], Field(default_factory=dict, max_length=WINDOWS_MAX)]
    """What all four are multiplied by in windows of the book."""
    batch: Amount | None = None
    """What all four are multiplied by for batch requests."""


class WeightedBody(Body):
    """Every price of another model of the list, multiplied; resolved when the list is published."""

    like: ModelName
    weight: Amount


class WindowBody(Body):
    weekdays: Annotated[list[Annotated[int, Field(ge=0, le=6)]], Field(min_length=1, max_length=7)]
    """0 is Monday."""
    begins_minute: Minute
    ends_minute: Minute
    """Exclusive."""
    utc_offset_minutes: Annotated[int, Field(ge=-OFFSET_MINUTES_MAX, le=OFFSET_MINUTES_MAX)] = 0


class PriceList(Body):
    currency: Currency
    organization: Id | None = None
    """Whose prices they are; null means everybody's who has none of its own."""
    models: Annotated[dict[ModelName, PricesBody | WeightedBody], Field(max_length=MODELS_MAX)]
    inherited_times: Amount | None = None
    """For an organization: what the prices of all models that are not named are multiplied by."""
    windows: Annotated[dict[Id, WindowBody], Field(default_factory=dict, max_length=WINDOWS_MAX)]


class NewPriceBook(PriceList):
    effective_at: AwareDatetime | None = None
    """Null means now."""
    confirm_large_changes: bool = False


class PricePreview(PriceList):
    start: AwareDatetime
    end: AwareDatetime
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Decoded; not yet checked as a whole."""

    currency: str
    org: str | None
    overrides: Overrides
    windows: dict[str, HourWindow]


class EffectiveInThePast(PriceInvalid):
    """What was rated stays rated: prices hold from now on or later."""

    code = "effective_in_the_past"

    def __init__(self) -> None:
        super().__init__("effective_at has passed already; leave it out to put the prices into force now.")


def effective(body: NewPriceBook, now: datetime) -> datetime:
    """Raises `EffectiveInThePast` and `IntervalInvalid`."""
    if body.effective_at is None:
        return now
    if body.effective_at < now:
        raise EffectiveInThePast
    return utc(body.effective_at)


def draft_of(body: PriceList) -> Draft:
    """Raises `PriceInvalid` and `AmountInvalid`."""
    if body.organization is None and (not body.models or body.inherited_times is not None):
        raise PriceInvalid("A currency's prices name every model; only an organization's own inherit others.")
    if body.organization is not None and body.windows:
        raise PriceInvalid("An organization's own prices use the windows of its currency's price book.")
    plain: dict[str, Prices] = {
        model: prices_of(prices.model_dump())
        for model, prices in body.models.items()
        if isinstance(prices, PricesBody)
    }
    models = dict(plain)
    for model, prices in body.models.items():
        if isinstance(prices, WeightedBody):
            if prices.like not in plain:
                raise PriceInvalid(f"{model}: the list has no prices of {prices.like!r} to be like.")
            models[model] = plain[prices.like].times(parse_price(prices.weight))
    return Draft(
        body.currency,
        body.organization,
        Overrides(models, None if body.inherited_times is None else parse_price(body.inherited_times)),
        windows_of({name: window.model_dump() for name, window in body.windows.items()}),
    )
