"""A version of an outcome type: what is sold, proven how, for how much. A task pins one when it opens."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_billing.outcomes.outcome import AcceptanceRule, ObserverGrade, Windows
from headrace_billing.outcomes.verifiers import VERIFIERS


class Fallback(StrEnum):
    """What the customer pays for the tokens of a task that brought no outcome."""

    FREE = "free"
    TOKENS_SHARE = "tokens_share"
    TOKENS_CAPPED = "tokens_capped"  # min(tokens, price of the outcome)


class FallbackUnsupported(BillingError):
    """Failed tasks can only be free for now."""

    code = "fallback_unsupported"

    def __init__(self, fallback: Fallback) -> None:
        super().__init__(f"The fallback {fallback.value!r} is not available; only 'free' is.")


class VerifierUnknown(BillingError):
    """No such verifier, or not in that version."""

    code = "verifier_unknown"

    def __init__(self, verifier: str) -> None:
        known = ", ".join(sorted(VERIFIERS))
        super().__init__(f"There is no verifier {verifier!r}. Known: {known}.")


class AcceptanceRuleInvalid(BillingError):
    """Grades that may never accept on their own were named as sufficient, or none was."""

    code = "acceptance_rule_invalid"

    def __init__(self) -> None:
        super().__init__(
            "Only observers of grade A (customer) and B (independent system) can suffice; "
            "the platform's own verification (C) counts by `deemed_after_stability`, an agent's word (D) never."
        )


@dataclass(frozen=True, slots=True)
class OutcomeType:
    id: str
    name: str
    version: int
    criteria: str
    verifier: str
    price_nanos: int
    currency: str
    windows: Windows
    fallback: Fallback
    rule: AcceptanceRule

    def __post_init__(self) -> None:
        assert self.price_nanos > 0, f"{self.name}@{self.version} costs {self.price_nanos}"

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


def fallback_of(fallback: Fallback) -> Fallback:
    """`fallback` itself. Raises `FallbackUnsupported`."""
    if fallback is not Fallback.FREE:
        raise FallbackUnsupported(fallback)
    return fallback


def verifier_of(verifier: str) -> str:
    """`verifier` itself. Raises `VerifierUnknown`."""
    if verifier not in VERIFIERS:
        raise VerifierUnknown(verifier)
    return verifier


def windows_of(seconds: Mapping[str, int]) -> Windows:
    """From `<window>_seconds`; the ones left out keep their defaults."""
    return Windows(
        **{name.removesuffix("_seconds"): timedelta(seconds=value) for name, value in seconds.items()}
    )


def rule_of(confirming: Collection[ObserverGrade], *, deemed_after_stability: bool) -> AcceptanceRule:
    """Raises `AcceptanceRuleInvalid`."""
    if not confirming or not set(confirming) <= {ObserverGrade.CUSTOMER, ObserverGrade.INDEPENDENT}:
        raise AcceptanceRuleInvalid
    return AcceptanceRule(frozenset(confirming), deemed_after_stability)
