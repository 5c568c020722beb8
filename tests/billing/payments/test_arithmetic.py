"""What holds for every amount: cash ends up as Stripe says, and a comparison counts each transaction once."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger.transaction import AccountKind
from headrace_billing.payments.cash import settlement_transactions
from headrace_billing.payments.money_seen import Settlement
from headrace_billing.payments.reconciliation import GRACE, Booked, Posted, compare
from tests.billing.seller import NOW

CURRENCIES = st.sampled_from(["USD", "EUR", "JPY", "KWD"])
AMOUNTS = st.integers(-(10**9), 10**9).filter(bool)
FEES = st.integers(-(10**6), 10**6)


@given(moved=AMOUNTS, currency=CURRENCIES, settled=CURRENCIES, converted=AMOUNTS, fee=FEES)
def test_cash_of_each_currency_is_what_stripe_s_books_say(
    moved: int, currency: str, settled: str, converted: int, fee: int
) -> None:
    amount = moved if settled == currency else converted
    settlement = Settlement("txn_1", amount, fee, settled)
    cash = {currency: moved * nanos_per_minor(currency)}
    for transaction in settlement_transactions(settlement, moved_minor=moved, currency=currency, at=NOW):
        for posting in transaction.postings:
            if posting.account.kind is AccountKind.CASH_CLEARING:
                cash[transaction.currency] = cash.get(transaction.currency, 0) + posting.amount_nanos
    expected = {currency: 0, settled: (amount - fee) * nanos_per_minor(settled)}
    assert {code: nanos for code, nanos in cash.items() if nanos} == {
        code: nanos for code, nanos in expected.items() if nanos
    }


BOOKED = st.builds(
    Booked,
    id=st.uuids().map(str),
    kind=st.sampled_from(["charge", "refund", "adjustment", "payout", "stripe_fee"]),
    amount_minor=st.integers(-500, 500),
    fee_minor=st.integers(0, 50),
    currency=st.just("USD"),
    payment=st.sampled_from([None, "pi_1", "pi_2"]),
    booked_at=st.timedeltas(timedelta(0), 2 * GRACE).map(lambda ago: NOW - ago),
)


@given(booked=st.lists(BOOKED, max_size=12), data=st.data())
def test_each_transaction_of_stripe_s_counts_once_in_whatever_order(
    booked: list[Booked], data: st.DataObject
) -> None:
    posted = {
        one.id: Posted(
            id=one.id,
            org="org_1",
            amount_minor=one.amount_minor + data.draw(st.sampled_from([0, 0, 1])),
            fee_minor=one.fee_minor,
            currency="USD",
            moved_minor=one.amount_minor,
            moved_currency="USD",
            posted_at=one.booked_at,
        )
        for one in booked
        if data.draw(st.booleans())
    }
    found = compare(booked, posted, now=NOW)
    others = [one for one in booked if one.kind in ("payout", "stripe_fee") and one.id not in posted]
    assert sum(found.others.values()) == sum(one.amount_minor - one.fee_minor for one in others)
    counted = found.matched + found.pending + found.returned + len(found.differences) + len(others)
    assert counted == len(booked)
    again = compare(data.draw(st.permutations(booked)), posted, now=NOW)
    assert sorted(again.differences, key=lambda one: one.id) == sorted(
        found.differences, key=lambda one: one.id
    )
