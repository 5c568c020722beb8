"""What an outcome may become, and who may say so. Only an accepted one is ever billed.

reported → verifying → verified → accepted → invoiced → settled
     └───────────┴──────────┴─→ rejected | expired | withdrawn      (never billed)
                                    accepted, invoiced, settled ─→ reversed
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headrace_billing.errors import BillingError


class OutcomeStatus(StrEnum):
    REPORTED = "reported"
    VERIFYING = "verifying"
    VERIFIED = "verified"
    ACCEPTED = "accepted"
    INVOICED = "invoiced"
    SETTLED = "settled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    REVERSED = "reversed"


S = OutcomeStatus
EXITS = frozenset({S.REJECTED, S.EXPIRED, S.WITHDRAWN})
UNDECIDED = frozenset({S.REPORTED, S.VERIFYING, S.VERIFIED})
BILLABLE = frozenset({S.ACCEPTED, S.INVOICED, S.SETTLED})

NEXT: Mapping[OutcomeStatus, frozenset[OutcomeStatus]] = {
    S.REPORTED: EXITS | {S.VERIFYING},
    S.VERIFYING: EXITS | {S.VERIFIED},
    S.VERIFIED: EXITS | {S.ACCEPTED},
    S.ACCEPTED: frozenset({S.INVOICED, S.REVERSED}),
    S.INVOICED: frozenset({S.SETTLED, S.REVERSED}),
    S.SETTLED: frozenset({S.REVERSED}),
    S.REJECTED: frozenset(),
    S.EXPIRED: frozenset(),
    S.WITHDRAWN: frozenset(),
    S.REVERSED: frozenset(),
}


class OutcomeTransitionIllegal(BillingError):
    """The outcome is in a state from which the asked one can't be reached."""

    code = "outcome_transition_illegal"

    def __init__(self, outcome: str, current: OutcomeStatus, to: OutcomeStatus) -> None:
        super().__init__(f"{outcome} is {current} and can't become {to}.")


def advance(outcome: str, current: OutcomeStatus, to: OutcomeStatus) -> OutcomeStatus:
    """`to` itself. Raises `OutcomeTransitionIllegal`."""
    if to not in NEXT[current]:
        raise OutcomeTransitionIllegal(outcome, current, to)
    return to


class ObserverGrade(StrEnum):
    """How far from the seller's interest an observer stands."""

    CUSTOMER = "A"
    INDEPENDENT = "B"  # a system of neither party: a signed webhook of a forge, a CI, a helpdesk
    PLATFORM = "C"  # a verifier that we run
    AGENT = "D"  # may report, and nothing else


class AcceptedAs(StrEnum):
    """Shown apart on the invoice."""

    CONFIRMED = "confirmed"  # somebody said yes
    DEEMED = "deemed"  # verified by the platform, and nobody said no in time


class ObserverInsufficient(BillingError):
    """The observer's grade does not suffice to accept outcomes of this type."""

    code = "observer_insufficient"

    def __init__(self, grade: ObserverGrade) -> None:
        super().__init__(f"An observer of grade {grade} can't accept an outcome of this type.")


@dataclass(frozen=True, slots=True)
class AcceptanceRule:
    confirming: frozenset[ObserverGrade] = frozenset({ObserverGrade.CUSTOMER})
    """Grades of which one suffices on its own."""
    deemed_after_stability: bool = False
    """The contract's opt-in: a passed verification of the platform counts once its window has gone by in silence."""

    def __post_init__(self) -> None:
        assert self.confirming <= {ObserverGrade.CUSTOMER, ObserverGrade.INDEPENDENT}, (
            f"{sorted(self.confirming)}: the platform accepts by opt-in only, and an agent never"
        )

    def confirmed_by(self, grade: ObserverGrade) -> AcceptedAs:
        """Raises `ObserverInsufficient`."""
        if grade not in self.confirming:
            raise ObserverInsufficient(grade)
        return AcceptedAs.CONFIRMED


@dataclass(frozen=True, slots=True)
class Windows:
    """How long each step may take. A window is over at its end: that instant is already too late."""

    evidence: timedelta = timedelta(days=7)
    """From opening the task to a report."""
    verification: timedelta = timedelta(hours=24)
    """From a report to a verdict; a miss favours the customer."""
    stability: timedelta = timedelta(hours=72)
    """From the verdict to the earliest acceptance by silence."""
    confirmation: timedelta = timedelta(days=7)
    """From the verdict to the last acceptance, where silence is none."""
    dispute: timedelta = timedelta(days=30)
    reversal: timedelta = timedelta(days=30)


class Due(StrEnum):
    """What the clock alone brings about."""

    NOTHING = "nothing"
    EXPIRY = "expiry"
    DEEMED_ACCEPTANCE = "deemed_acceptance"


def due(
    status: OutcomeStatus,
    *,
    reported_at: datetime,
    verified_at: datetime | None,
    windows: Windows,
    rule: AcceptanceRule,
    now: datetime,
) -> Due:
    """What has to happen to an outcome of which nobody has said anything more until `now`."""
    if status in {S.REPORTED, S.VERIFYING}:
        return Due.EXPIRY if now >= reported_at + windows.verification else Due.NOTHING
    if status is not S.VERIFIED:
        return Due.NOTHING
    assert verified_at is not None, "a verified outcome without the time of its verdict"
    if rule.deemed_after_stability:
        return Due.DEEMED_ACCEPTANCE if now >= verified_at + windows.stability else Due.NOTHING
    return Due.EXPIRY if now >= verified_at + windows.confirmation else Due.NOTHING
