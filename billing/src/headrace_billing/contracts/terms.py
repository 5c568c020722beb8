"""What a version of a contract says. Shares and multipliers are integers of millionths, rates nano-units a GPU-hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MILLION = 1_000_000


class Funding(StrEnum):
    PREPAID = "prepaid"  # invoiced as a period begins; usage draws it down
    POSTPAID = "postpaid"  # usage is billed as it comes; what is missing at a period's end is charged then


class WhenUsedUp(StrEnum):
    """What pays for requests that come after a prepaid commitment is used up."""

    STOP = "stop"  # nothing: they are refused
    OVERAGE = "overage"  # the customer, afterwards


@dataclass(frozen=True, slots=True)
class Rollover:
    """What of an unused prepaid commitment lives on in the next period."""

    share_millionths: int
    cap_nanos: int | None
    periods: int
    """For how many periods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    funding: Funding
    amounts_nanos: Sequence[int]
    """By period; the last holds on."""
    when_used_up: WhenUsedUp = WhenUsedUp.OVERAGE
    overage_millionths: int = MILLION
    """What the charge of usage beyond the commitment is multiplied by."""
    rollover: Rollover | None = None

    def amount_nanos(self, index: int) -> int:
        return self.amounts_nanos[min(index, len(self.amounts_nanos) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRate:
    """Of one deployment and kind of accelerator."""

    deployment: str
    profile: str
    accelerators: int
    """Reserved."""
    reserved_nanos: int
    """An hour of each accelerator that is reserved, whether it is used or not."""
    on_demand_nanos: int
    """An hour of each accelerator above."""


class Measure(StrEnum):
    """What a share is taken of, and which of it are good."""

    REQUESTS = "requests"  # requests that did not fail
    MINUTES = "minutes"  # minutes in which something could be served
    FIRST_TOKEN = "first_token"  # noqa: S105 - streamed requests whose first token came in time
    ANSWER = "answer"  # requests that were answered in time


@dataclass(frozen=True, slots=True)
class Tier:
    below_millionths: int
    """Of attainment; what is below it is credited."""
    credit_millionths: int
    """Of the fee."""


class FeeOf(StrEnum):
    """What a credit is a share of."""

    DEPLOYMENT = "deployment"  # its GPU time of the month
    CONTRACT = "contract"  # usage and GPU time of the month


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    name: str
    deployment: str
    measure: Measure
    within_ms: int | None
    """In which time, for `FIRST_TOKEN` and `ANSWER`."""
    fee_of: FeeOf
    tiers: Sequence[Tier]
    """From the mildest breach to the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    commitment: Commitment | None = None
    rates_millionths: Sequence[int] = ()
    """What list prices are multiplied by, by period; the last holds on. Empty leaves prices as they are."""
    minimum_nanos: int | None = None
    """Of what a month's usage and GPU time must come to."""
    gpu_rates: Sequence[GpuRate] = ()
    service_levels: Sequence[ServiceLevel] = ()
    credit_cap_millionths: int = MILLION
    """Of a month's fees; more is never credited."""

    def rate_millionths(self, index: int) -> int | None:
        if not self.rates_millionths:
            return None
        return self.rates_millionths[min(index, len(self.rates_millionths) - 1)]

    @property
    def prepaid(self) -> Commitment | None:
        commitment = self.commitment
        return commitment if commitment is not None and commitment.funding is Funding.PREPAID else None

    @property
    def postpaid(self) -> Commitment | None:
        return None if self.prepaid is not None else self.commitment
