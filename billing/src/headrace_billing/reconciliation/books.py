"""The books against each other: what was counted, rated, posted and invoiced must be one and the same amount."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Two ways to one number: tokens, requests, or nano-units where it has a currency."""

    name: str
    left: int
    right: int
    currency: str | None = None

    @property
    def holds(self) -> bool:
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class Counts:
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Of one currency, in nano-units; what is posted to a customer's account has the account's sign."""

    currency: str
    events: int
    """Charge of the sold tokens, rated here and now from the events; of the months in question."""
    rated: int
    """Charge as ingest rated it, step by step; of the same months."""
    rolled: int
    """Charge as rollups have it by hour and key, for whoever asks what was spent; of the same months."""
    rolled_by_day: int
    rolled_by_session: int
    posted: int
    """Usage as the ledger has it; of the same months."""
    unbilled: int
    """Balance of the account."""
    applied: int
    """Balance of the account."""
    rated_ever: int
    rated_prepaid_ever: int
    outcomes_ever: int
    """Prices of all outcomes that were accepted."""
    outcomes_prepaid_ever: int
    charged_ever: int
    """Charges for times, and credits."""
    invoiced: int
    """Exact amounts of all invoices."""
    invoiced_applied: int
    posted_invoices: int
    """What invoices took from `unbilled`, as the ledger has it."""


REQUESTS = "requests: events = rollups"


def count_checks(events: Counts, rollups: Counts) -> list[Check]:
    return [
        Check(REQUESTS, events.requests, rollups.requests),
        Check("tokens: events = rollups", events.tokens, rollups.tokens),
    ]


def money_checks(money: Money) -> list[Check]:
    unbilled = money.rated_ever + money.outcomes_ever + money.charged_ever - money.invoiced
    applied = money.rated_prepaid_ever + money.outcomes_prepaid_ever - money.invoiced_applied
    return [
        Check("usage: events = rated", money.events, money.rated, money.currency),
        Check("usage: rollups = rated", money.rolled, money.rated, money.currency),
        Check("usage: rollups by day = rated", money.rolled_by_day, money.rated, money.currency),
        Check("usage: rollups by session = rated", money.rolled_by_session, money.rated, money.currency),
        Check("usage: rated = ledger", money.rated, money.posted, money.currency),
        Check("invoices: issued = ledger", money.invoiced, money.posted_invoices, money.currency),
        Check(
            "unbilled: used, accepted and charged - invoiced = ledger",
            unbilled,
            money.unbilled,
            money.currency,
        ),
        Check("wallet applied: prepaid - invoiced = ledger", applied, -money.applied, money.currency),
    ]


def broken(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if not check.holds]
