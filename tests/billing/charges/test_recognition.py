"""Revenue of a charge by months."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.accounting.month import next_month
from headrace_billing.charges.charge import ChargeKind
from headrace_billing.charges.recognition import Deferred, due_nanos, recognitions
from headrace_billing.invoicing.usage import Span

YEAR = Span(datetime(2028, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC))
FAR = date(2034, 12, 1)


def deferred(nanos: int, span: Span = YEAR, **fields: object) -> Deferred:
    return Deferred(
        **{
            "charge": "chg_1",
            "currency": "USD",
            "kind": ChargeKind.PLAN,
            "span": span,
            "nanos": nanos,
            "changes": (),
            "recognised": {},
            **fields,
        }  # type: ignore[arg-type]
    )


def test_a_leap_years_fee_is_recognised_by_the_days_of_its_months() -> None:
    found = recognitions(deferred(366), through=date(2028, 12, 1))
    assert list(found.values()) == [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def test_what_a_credit_note_takes_back_comes_off_in_the_month_of_its_issue() -> None:
    noted = deferred(366, changes=[(datetime(2028, 7, 10, tzinfo=UTC), -366)])
    found = recognitions(noted, through=date(2028, 9, 1))
    earned = [31, 29, 31, 30, 31, 30]
    assert list(found.values()) == [*earned, -sum(earned), 0]
    assert date(2028, 8, 1) not in found


def test_a_credit_note_after_the_time_has_passed_comes_off_then_and_not_before() -> None:
    recognised = recognitions(deferred(366), through=date(2028, 12, 1))
    noted = deferred(366, recognised=recognised, changes=[(datetime(2030, 3, 5, tzinfo=UTC), -66)])
    assert recognitions(noted, through=date(2030, 4, 1)) == {date(2030, 3, 1): -66, date(2030, 4, 1): 0}


SPANS = st.tuples(st.integers(0, 10**9), st.integers(1, 10**8)).map(
    lambda pair: Span(
        datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=pair[0] % 10**8),
        datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=pair[0] % 10**8 + pair[1]),
    )
)


@given(nanos=st.integers(-(10**15), 10**15).filter(bool), span=SPANS, pauses=st.sets(st.integers(0, 60)))
def test_months_add_up_to_the_amount_whenever_they_are_recognised(
    nanos: int, span: Span, pauses: set[int]
) -> None:
    at_once = {
        month: part for month, part in recognitions(deferred(nanos, span), through=FAR).items() if part
    }
    assert sum(at_once.values()) == nanos
    bit_by_bit: dict[date, int] = {}
    month = span.start.date().replace(day=1)
    for step in range(130):
        if step in pauses or step == 129:
            bit_by_bit |= recognitions(deferred(nanos, span, recognised=bit_by_bit), through=month)
        month = next_month(month)
    assert {month: part for month, part in bit_by_bit.items() if part} == at_once


@given(nanos=st.integers(1, 10**15), span=SPANS, seconds=st.integers(-10, 10**8))
def test_what_is_due_never_falls_and_never_exceeds_the_amount(nanos: int, span: Span, seconds: int) -> None:
    at = span.start + timedelta(seconds=seconds)
    assert 0 <= due_nanos(nanos, span, at) <= due_nanos(nanos, span, at + timedelta(seconds=1)) <= nanos
