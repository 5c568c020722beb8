"""What a limit's refusal says to a person."""

import pytest

from headrace_gateway.errors import LimitReached
from headrace_gateway.limits import plan
from headrace_gateway.limits.state import CheckedLimit

BUDGET = (
    "Budget spend_day of key k1: 0.999998 of 1.00 is spent or held, and this request may cost up to 1.50. "
    "Try again in 16 h 32 min."
)


def refused(limit: CheckedLimit, *, used: int, ceiling: int, weight: int, wait: float | None) -> LimitReached:
    return plan.refusal(limit, used=used, ceiling=ceiling, weight=weight, retry_after_seconds=wait)


@pytest.mark.parametrize(
    ("kind", "counter", "wait", "words"),
    [
        (
            plan.WALLET,
            "hr:wallet:w1",
            None,
            "This request may cost up to 1.50 and 0.000002 is free in wallet w1. Top it up, or ask for fewer tokens.",
        ),
        (
            "spend_day",
            "hr:counter:spend_day:key:k1",
            59_461.8,
            BUDGET,
        ),
        (
            plan.COMMITMENT,
            "hr:wallet:w1",
            None,
            "0.000002 is left of the commitment in wallet w1, and this request may cost up to 1.50.",
        ),
    ],
)
def test_money_is_told_as_money(kind: str, counter: str, wait: float | None, words: str) -> None:
    limit: CheckedLimit = (kind, counter, 1_000_000, 0)
    said = refused(limit, used=999_998, ceiling=1_000_000, weight=1_500_000, wait=wait)
    assert str(said) == words
    assert (said.used, said.ceiling, said.weight) == (999_998, 1_000_000, 1_500_000)


def test_where_nothing_ever_passes_nobody_is_told_to_come_again() -> None:
    limit: CheckedLimit = ("requests_per_minute", "hr:counter:requests_per_minute:key:k1", 0, 1)
    said = refused(limit, used=0, ceiling=0, weight=1, wait=60.0)
    assert said.retry_after_seconds is said.resets_in_seconds is None
    assert str(said) == "Limit requests_per_minute of key k1: used 0 of 0, this request weighs 1."
