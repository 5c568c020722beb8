"""Limits as the API takes and shows them. What a gateway could not count exactly stops here."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, NotRequired

import msgspec
from pydantic import AwareDatetime, Field, StringConstraints, model_validator
from typing_extensions import TypedDict

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

Weight = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]


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
    def _weighable(self) -> "WindowBody":
        if (self.unit is WindowUnit.CREDITS) != bool(self.weights):
            raise ValueError("weights: those and only those windows that count credits have them")
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
            anchor_us=0 if self.anchor is None else int(self.anchor.timestamp()) * 1_000_000,
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
    ceiling: Annotated[int, Field(ge=0, lt=MICROS_MAX)]
    model: ModelName | None = None
    window: WindowBody | None = None

    @model_validator(mode="after")
    def _countable(self) -> "LimitBody":
        if (self.kind is LimitKind.WINDOW) != (self.window is not None):
            raise ValueError("window: a limit of the kind `window` has one, and no other")
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
        )
        for body in bodies
    ]


class LimitDocument(TypedDict):
    kind: LimitKind
    ceiling: int
    model: NotRequired[str]
    window: NotRequired[Mapping[str, Any]]


def limit_documents(limits: list[Limit]) -> list[LimitDocument]:
    documents: list[LimitDocument] = msgspec.to_builtins(limits)
    return documents
