"""A contract: a customer's commitment for a term. Its terms have versions, and a period keeps the one it began with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from headrace_billing.contracts.term import ContractInvalid, Term, month_of
from headrace_billing.contracts.terms import Commitment, Terms, WhenUsedUp
from headrace_billing.errors import BillingError
from headrace_billing.money import MICROS_MAX, NANOS_PER_MICRO


class ContractStatus(StrEnum):
    SIGNED = "signed"  # its term has not begun
    ACTIVE = "active"
    ENDED = "ended"


class AmendmentInvalid(BillingError):
    """Terms are never changed while they bill: a new version holds from the beginning of a later period on."""

    code = "amendment_invalid"


class ProjectCommitted(BillingError):
    """A project is of one contract at a time."""

    code = "project_committed"

    def __init__(self, project: str, contract: str) -> None:
        super().__init__(f"{project} is of {contract} during that time already.")


@dataclass(frozen=True, slots=True)
class Version:
    number: int
    effective_on: date
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    id: str
    organization: str
    name: str
    currency: str
    term: Term
    wallet: str | None
    """What a prepaid commitment is drawn from; null for a postpaid one and for none."""
    signed_at: datetime
    versions: Sequence[Version]
    """By number, and so by when they take effect."""
    projects: Sequence[str]
    closed_at: datetime | None = None
    """Its last period was closed, and its projects pay as they did before."""

    def status(self, now: datetime) -> ContractStatus:
        if now < self.term.starts_at:
            return ContractStatus.SIGNED
        return ContractStatus.ACTIVE if now < self.term.ends_at else ContractStatus.ENDED

    def version(self, index: int) -> Version:
        """What a period goes by."""
        begins = self.term.period(index).start.date()
        return [version for version in self.versions if version.effective_on <= begins][-1]

    def terms(self, index: int) -> Terms:
        return self.version(index).terms

    def terms_of_month(self, month: date) -> Terms:
        return self.terms(self.term.period_of(month))

    def period_at(self, now: datetime) -> int:
        """The first one before the term, the last one after it."""
        if now < self.term.starts_at:
            return 0
        month = min(month_of(now), self.term.every_month()[-1])
        return self.term.period_of(month)


def check_terms(terms: Terms, term: Term) -> None:
    """Raises `ContractInvalid`."""
    if terms.commitment is None and not terms.gpu_rates and terms.minimum_nanos is None:
        raise ContractInvalid("A contract has a commitment, a minimum or GPU rates; this one bills nothing.")
    if terms.postpaid is not None and terms.postpaid.when_used_up is WhenUsedUp.STOP:
        raise ContractInvalid(
            "when_used_up: a postpaid commitment can't stop; give the projects a budget (spend_month) instead."
        )
    if terms.postpaid is not None and terms.postpaid.rollover is not None:
        raise ContractInvalid("rollover: only what was paid ahead can roll over.")
    if terms.prepaid is not None and held_at_most(terms.prepaid) // NANOS_PER_MICRO >= MICROS_MAX:
        raise ContractInvalid("amounts: with all that may roll over, more than admission can count exactly.")
    if terms.commitment is not None and len(terms.commitment.amounts_nanos) > term.periods:
        raise ContractInvalid(f"amounts: the term has {term.periods} periods, which is fewer.")
    places = [(rate.deployment, rate.profile) for rate in terms.gpu_rates]
    if len(set(places)) != len(places):
        raise ContractInvalid("gpu_rates: one for each deployment and profile.")
    names = [level.name for level in terms.service_levels]
    if len(set(names)) != len(names):
        raise ContractInvalid("service_levels: each has a name of its own.")
    for level in terms.service_levels:
        below = [tier.below_millionths for tier in level.tiers]
        if below != sorted(set(below), reverse=True):
            raise ContractInvalid(
                f"service_levels: the tiers of {level.name!r} go from the highest `below` down."
            )


def held_at_most(commitment: Commitment) -> int:
    """The most that a wallet can hold of it at once, in nano-units."""
    periods = 1 if commitment.rollover is None else 1 + commitment.rollover.periods
    return max(commitment.amounts_nanos) * periods


def check_amendment(contract: Contract, *, effective_on: date, terms: Terms, now: datetime) -> None:
    """Raises `AmendmentInvalid`, `ContractInvalid`."""
    boundaries = {contract.term.period(index).start.date() for index in range(contract.term.periods)}
    if effective_on not in boundaries:
        raise AmendmentInvalid("effective_on: a version holds from the first day of a period.")
    if effective_on <= now.date():
        raise AmendmentInvalid(
            "effective_on: that period has begun, and goes by the terms that it began with: name a later one."
        )
    if effective_on < contract.versions[-1].effective_on:
        raise AmendmentInvalid(
            f"effective_on: version {contract.versions[-1].number} holds from"
            f" {contract.versions[-1].effective_on} on; a new one comes after it or takes its place."
        )
    if (terms.prepaid is None) != (contract.wallet is None):
        raise AmendmentInvalid(
            "funding: prepaid or not is settled for the whole term; sign another contract."
        )
    check_terms(terms, contract.term)


def shortened(contract: Contract, *, ends_on: date, now: datetime) -> Term:
    """The term with fewer periods. Raises `AmendmentInvalid`."""
    term = contract.term
    for periods in range(term.periods + 1):
        shorter = Term(term.starts_on, periods * term.period_months, term.cadence)
        if shorter.ends_at.date() == ends_on:
            break
    else:
        raise AmendmentInvalid("ends_on: a contract ends where one of its periods ends.")
    if ends_on <= now.date():
        raise AmendmentInvalid(
            "ends_on: that period has begun; name the end of the running one or of a later one."
        )
    if shorter.months == 0:
        raise AmendmentInvalid("ends_on: a contract has at least one period.")
    return shorter
