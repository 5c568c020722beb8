"""Where a contract stands: what of the running period's commitment is used and left, and what its end may bring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from headrace_billing.contracts.assessing import Fees
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.drawdown import true_up_nanos
from headrace_billing.contracts.period_store import Period, PeriodLot
from headrace_billing.contracts.terms import Funding
from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.usage import Span

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
ALERTS_PERCENT = (50, 80, 100)
PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    period: int
    span: Span
    committed_nanos: int
    rolled_in_nanos: int
    used_nanos: int
    """Of what was committed and what rolled over."""
    left_nanos: int
    overage_nanos: int
    """Used beyond, at list price."""
    projected_nanos: int
    """What the period uses if it goes on as so far."""
    projected_true_up_nanos: int
    """Zero where the commitment is paid ahead: what is left of that is rolled over or broken."""
    days_left: int

    @property
    def used_percent(self) -> int:
        """Rounded down; a commitment of nothing is used up."""
        whole = self.committed_nanos + self.rolled_in_nanos
        return PERCENT if not whole else self.used_nanos * PERCENT // whole

    @property
    def thresholds(self) -> list[int]:
        """Those that were reached."""
        return [percent for percent in ALERTS_PERCENT if self.used_percent >= percent]


def standing(
    contract: Contract,
    fees: Mapping[date, Fees],
    periods: Sequence[Period],
    lots: Sequence[PeriodLot],
    *,
    index: int,
    now: datetime,
) -> Standing:
    """Of a period of a contract that has a commitment."""
    commitment, span = contract.terms(index).commitment, contract.term.period(index)
    assert commitment is not None, contract.id
    of_period = [of for month, of in fees.items() if contract.term.period_of(month) == index]
    committed = commitment.amount_nanos(index)
    overage = sum(of.overage_nanos for of in of_period)
    if commitment.funding is Funding.PREPAID:
        own = [lot for lot in lots if lot.period == index]
        late = sum(period.paid_nanos for period in periods if period.index == index)
        rolled_in = sum(lot.granted_nanos for lot in own if lot.rolled_from is not None)
        used = sum(lot.used_nanos for lot in own) + late
        left = sum(lot.left_nanos for lot in own)
    else:
        spent = sum(of.used.afterwards_nanos for of in of_period)
        rolled_in, used = 0, min(spent, committed)
        left = committed - used
    projected = _projected(used + overage, span, now)
    return Standing(
        period=index,
        span=span,
        committed_nanos=committed,
        rolled_in_nanos=rolled_in,
        used_nanos=used,
        left_nanos=left,
        overage_nanos=overage,
        projected_nanos=projected,
        projected_true_up_nanos=0
        if commitment.funding is Funding.PREPAID
        else true_up_nanos(committed_nanos=committed, used_nanos=projected),
        days_left=max(-(-(span.end - max(now, span.start)) // DAY), 0),
    )


def _projected(spent_nanos: int, span: Span, now: datetime) -> int:
    """By time elapsed; at the end what it was."""
    elapsed = (min(max(now, span.start), span.end) - span.start) // MICROSECOND
    if not elapsed:
        return spent_nanos
    return divided_half_away(spent_nanos * ((span.end - span.start) // MICROSECOND), elapsed)
