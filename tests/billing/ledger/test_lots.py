"""In which order credit is burnt, and that giving back is the same film run backwards."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.ledger.lots import Holdings, Lot, burn, burn_order, charge, give_back
from headrace_billing.ledger.transaction import AccountKind
from tests.billing.ledger.books import NOW, USD, WALLET


def lot(name: str, remaining: int = 10, **fields: object) -> Lot:
    values: dict[str, object] = {
        "kind": AccountKind.WALLET_PAID,
        "scope": None,
        "priority": 100,
        "expires_at": None,
        "opened_at": NOW,
        **fields,
    }
    return Lot(id=name, wallet=WALLET, currency=USD, remaining_nanos=remaining, **values)  # type: ignore[arg-type]


def holdings(*lots: Lot, overdraft: int = 0) -> Holdings:
    return Holdings(WALLET, USD, lots, overdraft)


def test_credit_burns_scoped_then_priority_then_promo_then_earliest_expiry_then_oldest_then_id() -> None:
    soon, later = NOW + timedelta(days=1), NOW + timedelta(days=9)
    expected = [
        lot("scoped", scope="prj", priority=900),
        lot("urgent", priority=1),
        lot("promo", kind=AccountKind.WALLET_PROMO),
        lot("expires-soon", expires_at=soon),
        lot("expires-later", expires_at=later),
        lot("older", opened_at=NOW - timedelta(days=2)),
        lot("a"),
        lot("b"),
    ]
    assert burn_order(list(reversed(expected))) == expected


def test_a_scoped_lot_pays_for_its_own_project_only() -> None:
    mine = holdings(lot("mine", scope="prj_1"), lot("open"))
    assert [p.lot for p in burn(mine, 15, project="prj_1")[0]] == ["mine", "open"]
    postings, short = burn(mine, 15, project="prj_2")
    assert [p.lot for p in postings] == ["open"]
    assert short == 5


def test_a_lot_for_one_model_pays_for_that_model_only_and_before_others() -> None:
    mine = holdings(
        lot("open"), lot("flash", scope_model="glm-flash"), lot("both", scope="prj_1", scope_model="glm")
    )
    assert [p.lot for p in burn(mine, 15, project="prj_1", model="glm-flash")[0]] == ["flash", "open"]
    assert [p.lot for p in burn(mine, 15, project="prj_1", model="glm")[0]] == ["both", "open"]
    assert [p.lot for p in burn(mine, 15, project="prj_2", model="glm")[0]] == ["open"]


def test_usage_given_back_goes_to_lots_that_could_have_paid_for_it() -> None:
    mine = holdings(
        lot("mine", 0, scope="prj_1", used_nanos=5, last_burnt=1),
        lot("others", 0, scope="prj_2", used_nanos=9, last_burnt=2),
    )
    given = give_back(mine, 7, project="prj_1", model="glm")
    assert [(p.lot, p.amount_nanos) for p in given] == [("mine", -5), ("others", -2)]


def test_usage_that_no_lot_can_pay_becomes_overdraft() -> None:
    postings = charge(holdings(lot("a", 3)), 5, project=None)
    assert [(p.account.kind, p.amount_nanos) for p in postings] == [
        (AccountKind.WALLET_PAID, 3),
        (AccountKind.OVERDRAFT, 2),
    ]


def test_what_is_given_back_goes_to_the_overdraft_first_then_to_the_lot_burnt_last() -> None:
    postings = give_back(
        holdings(
            lot("first", 0, used_nanos=10, last_burnt=1),
            lot("last", 0, used_nanos=4, last_burnt=2),
            overdraft=3,
        ),
        9,
    )
    assert [(p.lot, p.amount_nanos) for p in postings] == [(None, -3), ("last", -4), ("first", -2)]


def test_giving_back_more_than_was_burnt_is_a_bug_and_not_a_gift() -> None:
    with pytest.raises(AssertionError, match="never burnt"):
        give_back(holdings(lot("a", 5, used_nanos=5)), 6)


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 400))
def test_a_charge_is_never_more_than_asked_and_leaves_no_lot_below_zero(
    sizes: list[int], amount: int
) -> None:
    lots = holdings(*(lot(str(n), size) for n, size in enumerate(sizes)))
    left = {lot.id: lot.remaining_nanos for lot in lots.lots}
    postings = charge(lots, amount, project=None)
    for posting in postings:
        if posting.lot is not None:
            left[posting.lot] -= posting.amount_nanos
    assert sum(p.amount_nanos for p in postings) == amount
    assert all(remaining >= 0 for remaining in left.values())
    short = sum(p.amount_nanos for p in postings if p.lot is None)
    assert short == max(0, amount - sum(sizes))
