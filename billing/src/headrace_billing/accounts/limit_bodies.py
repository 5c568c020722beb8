"""Limits as the API takes and shows them, the same document both ways. What a gateway could not count exactly stops here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NotRequired

import msgspec
from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from typing_extensions import TypedDict

from headrace_billing.accounts.key import microseconds
from headrace_billing.bodies import Body, ModelName
from headrace_billing.money import MICROS_MAX
from headrace_contracts.access import (
    ANY_MODEL,
    BUDGETS,
    CreditWeights,
    HourRate,
    Limit,
    LimitKind,
    Window,
    WindowShape,
    WindowUnit,
)
from headrace_contracts.counters import NANOS, RATE_CEILING_MAX, WEIGHT_MAX

LIMITS_MAX = 16
WINDOW_SECONDS_MAX = 31 * 86400  # a cold Valkey's are filled from as many minutes of usage
MINUTES_OF_DAY = 24 * 60
MODELS_WEIGHED_MAX = 50
RATES_MAX = 20

PUBLISHED = {"published": True}
"""The context of a definition that was taken already: it must stay readable, though its like is refused by now."""

Weight = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]


def _whole(value: object) -> object:
    """`"1.00"` is no way to say one dollar where a ceiling is in micro-units, and none to say one micro-unit either."""
    if type(value) is not int:
        raise ValueError(
            "a whole number, without quotes: of micro-units for budgets (1.00 of the currency is 1000000), of "
            "micro-credits for windows of credits, else of requests or tokens"
        )
    return value


Ceiling = Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=MICROS_MAX)]


class WeightsBody(Body):
    """Credits per 1,000,000 tokens."""

    input: Weight
    cached: Weight
    output: Weight


class HourRateBody(Body):
    weekdays: Annotated[list[Annotated[int, Field(ge=0, le=6)]], Field(min_length=1, max_length=7)]
    begins_minute: Annotated[int, Field(ge=0, lt=MINUTES_OF_DAY)]
    ends_minute: Annotated[int, Field(gt=0, le=MINUTES_OF_DAY)]
    utc_offset_minutes: Annotated[int, Field(ge=-MINUTES_OF_DAY, le=MINUTES_OF_DAY)]
    rate: Weight

    @model_validator(mode="after")
    def _lasting(self, info: ValidationInfo) -> "HourRateBody":
        if self.begins_minute >= self.ends_minute and info.context is not PUBLISHED:
            raise ValueError("rates: begins_minute is before ends_minute; hours over midnight are two rates")
        return self


class WindowBody(Body):
    seconds: Annotated[int, Field(ge=1, le=WINDOW_SECONDS_MAX)]
    shape: WindowShape
    unit: WindowUnit
    anchor: AwareDatetime | None = None
    weights: Annotated[
        dict[ModelName | str, WeightsBody], Field(max_length=MODELS_WEIGHED_MAX, default_factory=dict)
    ]
    rate: Weight = "1"
    rates: Annotated[list[HourRateBody], Field(max_length=RATES_MAX, default_factory=list)]

    @model_validator(mode="after")
    def _weighable(self, info: ValidationInfo) -> "WindowBody":
        if (self.unit is WindowUnit.CREDITS) != bool(self.weights):
            raise ValueError("weights: those and only those windows that count credits have them")
        rated = bool(self.rates) or Decimal(self.rate) != 1
        if self.unit is not WindowUnit.CREDITS and rated and info.context is not PUBLISHED:
            raise ValueError(
                "rate, rates: only credits have them; a token or a request counts as one at any hour"
            )
        if self.weights and ANY_MODEL not in self.weights:
            raise ValueError(f"weights: name what every other model weighs, as {ANY_MODEL!r}")
        rates = [Decimal(text) for text in (self.rate, *(hours.rate for hours in self.rates))]
        for weights in self.weights.values():
            heaviest = max(Decimal(text) for text in (weights.input, weights.cached, weights.output))
            if heaviest * max(rates) * NANOS > WEIGHT_MAX:
                raise ValueError("weights: too heavy to be counted exactly")
        return self

    def window(self) -> Window:
        return Window(
            seconds=self.seconds,
            shape=self.shape,
            unit=self.unit,
            anchor_us=0 if self.anchor is None else microseconds(self.anchor),
            weights={
                model: CreditWeights(input=w.input, cached=w.cached, output=w.output)
                for model, w in self.weights.items()
            },
            rate=self.rate,
            rates=[
                HourRate(
                    weekdays=hours.weekdays,
                    begins_minute=hours.begins_minute,
                    ends_minute=hours.ends_minute,
                    utc_offset_minutes=hours.utc_offset_minutes,
                    rate=hours.rate,
                )
                for hours in self.rates
            ],
        )


class LimitBody(Body):
    kind: LimitKind
    ceiling: Ceiling
    model: ModelName | None = None
    window: WindowBody | None = None
    stop: StrictBool = False
    """Of a window: streams that run end with it."""

    @model_validator(mode="after")
    def _countable(self) -> "LimitBody":
        if (self.kind is LimitKind.WINDOW) != (self.window is not None):
            raise ValueError("window: a limit of the kind `window` has one, and no other")
        if self.stop and (self.window is None or self.window.unit is WindowUnit.REQUESTS):
            raise ValueError("stop: only a window of tokens or credits fills while a request runs")
        if self.kind not in BUDGETS and self.window is None and self.ceiling > RATE_CEILING_MAX:
            raise ValueError(f"ceiling: at most {RATE_CEILING_MAX}")
        return self


Limits = Annotated[tuple[LimitBody, ...], Field(max_length=LIMITS_MAX)]


def limits_of(bodies: Limits) -> list[Limit]:
    return [
        Limit(
            kind=body.kind,
            ceiling=body.ceiling,
            model=body.model,
            window=None if body.window is None else body.window.window(),
            stop=body.stop,
        )
        for body in bodies
    ]


class LimitDocument(TypedDict):
    kind: LimitKind
    ceiling: int
    model: NotRequired[str]
    window: NotRequired[Mapping[str, Any]]
    stop: NotRequired[bool]


def limit_documents(limits: Sequence[Limit]) -> list[LimitDocument]:
    return [limit_document(limit) for limit in limits]


def limit_document(limit: Limit) -> LimitDocument:
    """As `LimitBody` takes it, without what it says by itself."""
    document: LimitDocument = {"kind": limit.kind, "ceiling": limit.ceiling}
    if limit.model is not None:
        document["model"] = limit.model
    if limit.window is not None:
        shown: dict[str, Any] = msgspec.to_builtins(limit.window)
        anchor_us = shown.pop("anchor_us", 0)
        document["window"] = shown | ({"anchor": _instant(anchor_us)} if anchor_us else {})
    if limit.stop:
        document["stop"] = True
    return document


def _instant(us: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)).isoformat()
