"""Commitments over their periods: drawn down, rolled over, broken, topped up to what was committed; never twice."""

from datetime import timedelta

from headrace_billing.ledger.transaction import AccountKind
from tests.billing.contracts.desk import DECEMBER, FEBRUARY, JANUARY, MARCH, NANOS, POSTPAID, PREPAID, Desk
from tests.billing.invoicing.abroad import settle_in

HOURS = timedelta(hours=1)
ROLLOVER = {"share": "0.5", "cap": "30.00", "periods": 1}


async def test_a_prepaid_commitment_is_charged_ahead_and_drawn_by_usage(desk: Desk) -> None:
    contract = await desk.sign()
    assert contract["status"] == "signed"
    await desk.passes_to(DECEMBER)
    assert await desk.charges() == [("commitment", "90.00")]
    assert await desk.shop.nanos(AccountKind.COMMITMENT) == -90 * NANOS
    assert await desk.shop.nanos(AccountKind.DEFERRED) == 0
    await desk.draw(contract, 27)
    standing = await desk.standing(contract)
    assert (standing["used"], standing["left"], standing["days_left"]) == ("27.00", "63.00", 31)
    invoice = await desk.shop.close(end=DECEMBER.isoformat())
    assert (invoice["total"], invoice["amount_due"]) == ("90.00", "90.00")
    await desk.passes_to(JANUARY + 6 * HOURS)
    # The commitment that the invoice of December collects is January's; what was drawn is paid already.
    invoice = await desk.shop.close(end=JANUARY.isoformat())
    assert (invoice["total"], invoice["amount_due"]) == ("117.00", "90.00")
    await desk.books_hold()


async def test_what_a_period_leaves_rolls_over_by_the_contract_s_terms_and_the_rest_is_broken(
    desk: Desk,
) -> None:
    contract = await desk.sign(terms={"commitment": {**PREPAID, "rollover": ROLLOVER}})
    await desk.passes_to(DECEMBER)
    await desk.draw(contract, 18)
    await desk.passes_to(JANUARY)
    first, second = (await desk.shown(contract))["periods"]
    (lot,) = first["lots"]
    # Of the 72 that are left half would be 36, and 30 is the cap.
    assert (lot["used"], lot["left"], lot["rolled"], lot["broken"]) == ("18.00", "0.00", "30.00", "42.00")
    own, rolled = second["lots"]
    assert (own["granted"], rolled["granted"], rolled["rolled_from"]) == ("90.00", "30.00", lot["id"])
    await desk.draw(contract, 27)
    own, rolled = (await desk.shown(contract))["periods"][1]["lots"]
    assert (own["left"], rolled["left"]) == ("90.00", "3.00")
    await desk.passes_to(MARCH)
    lots = [lot for period in (await desk.shown(contract))["periods"] for lot in period["lots"]]
    assert {lot["left"] for lot in lots} == {"0.00"}
    assert await desk.shop.nanos(AccountKind.COMMITMENT) == 0
    # 3 x 90 were paid, 45 of that used.
    assert await desk.shop.nanos(AccountKind.BREAKAGE) == -225 * NANOS
    await desk.books_hold()


async def test_late_usage_of_a_period_that_has_ended_is_paid_by_what_was_broken_of_it(desk: Desk) -> None:
    contract = await desk.sign()
    await desk.passes_to(JANUARY)
    assert await desk.shop.nanos(AccountKind.BREAKAGE) == -90 * NANOS
    late = await desk.draw(contract, 36, at=JANUARY - HOURS)
    assert await desk.shop.nanos(AccountKind.BREAKAGE) == -54 * NANOS
    standing = await desk.standing(contract, 0)
    assert (standing["used"], standing["left"]) == ("36.00", "0.00")
    assert (await desk.standing(contract))["left"] == "90.00"
    # More than was broken comes out of the running period, as any usage does.
    await desk.draw(contract, 63, at=JANUARY - HOURS)
    assert await desk.shop.nanos(AccountKind.BREAKAGE) == 0
    assert (await desk.standing(contract))["left"] == "81.00"
    assert late.wallet == contract["wallet"]
    await desk.books_hold()


async def test_a_postpaid_commitment_charges_what_was_not_used_and_no_more(desk: Desk) -> None:
    contract = await desk.sign(terms={"commitment": POSTPAID})
    await desk.passes_to(DECEMBER)
    await desk.use(27)
    await desk.passes_to(DECEMBER + timedelta(days=15))
    standing = await desk.standing(contract)
    assert (standing["used"], standing["left"], standing["projected_true_up"]) == ("27.00", "63.00", "34.20")
    await desk.passes_to(JANUARY + 4 * HOURS)
    assert await desk.charges() == []
    await desk.passes_to(JANUARY + 6 * HOURS)
    assert await desk.charges() == [("true_up", "63.00")]
    # Late usage was committed for already.
    await desk.use(9, at=JANUARY - HOURS)
    await desk.passes_to(JANUARY + 30 * HOURS)
    assert await desk.charges() == [("true_up", "63.00"), ("true_up", "-9.00")]
    invoice = await desk.shop.close(end=(JANUARY + 30 * HOURS).isoformat())
    assert invoice["total"] == "90.00"
    await desk.books_hold()


async def test_usage_beyond_a_postpaid_commitment_costs_its_own_rate(desk: Desk) -> None:
    terms = {"commitment": {**POSTPAID, "overage_times": "1.5"}}
    contract = await desk.sign(months=3, cadence="quarterly", terms=terms)
    await desk.passes_to(DECEMBER)
    await desk.use(81)
    await desk.passes_to(JANUARY)
    await desk.use(27)
    await desk.passes_to(FEBRUARY + 6 * HOURS)
    # 108 were used of 90: the 18 beyond were January's.
    assert await desk.charges() == [("overage", "9.00")]
    await desk.use(9, at=JANUARY - HOURS)
    await desk.passes_to(FEBRUARY + 30 * HOURS)
    await desk.passes_to(MARCH + 6 * HOURS)
    assert await desk.charges() == [("overage", "9.00"), ("overage", "4.50")]
    standing = await desk.standing(contract, 0)
    assert (standing["used"], standing["left"], standing["overage"]) == ("90.00", "0.00", "27.00")
    await desk.books_hold()


async def test_a_month_comes_to_its_minimum_and_amounts_ramp_by_period(desk: Desk) -> None:
    terms = {"commitment": {**POSTPAID, "amounts": ["9.00", "18.00"]}, "minimum_monthly": "40.00"}
    await desk.sign(terms=terms)
    await desk.passes_to(DECEMBER)
    await desk.use(36)
    await desk.passes_to(MARCH + 6 * HOURS)
    assert await desk.charges() == [
        ("minimum", "4.00"),
        ("minimum", "40.00"),
        ("true_up", "18.00"),
        ("minimum", "40.00"),
        ("true_up", "18.00"),
    ]


async def test_missed_periods_are_made_up_for_once_each(desk: Desk) -> None:
    contract = await desk.sign(terms={"commitment": {**PREPAID, "rollover": {"share": "1", "periods": 9}}})
    await desk.passes_to(MARCH + timedelta(days=200))
    await desk.work()
    assert await desk.charges() == [("commitment", "90.00")] * 3
    periods = (await desk.shown(contract))["periods"]
    assert [len(period["lots"]) for period in periods] == [1, 2, 2]
    assert await desk.shop.nanos(AccountKind.BREAKAGE) == -270 * NANOS
    assert (await desk.shown(contract))["status"] == "ended"
    await desk.books_hold()


async def test_projects_draw_from_the_commitment_while_it_runs_and_pay_as_before_after_it(desk: Desk) -> None:
    async def project() -> tuple[str, str]:
        (found,) = (await desk.shop.seller.get(f"/v1/projects?organization={desk.shop.customer.org}"))[
            "items"
        ]
        return found["disposition"], found["wallet"]

    before = await project()
    contract = await desk.sign(months=1)
    assert await project() == before
    await desk.passes_to(DECEMBER)
    assert await project() == ("commitment", contract["wallet"])
    await desk.passes_to(JANUARY)
    assert await project() == before
    assert before == ("prepaid", desk.shop.customer.wallet)


async def test_what_was_used_beyond_a_commitment_is_charged_when_the_contract_ends(desk: Desk) -> None:
    contract = await desk.sign(months=1)
    await desk.passes_to(DECEMBER)
    # Running streams may use more than is left; then the wallet is overdrawn.
    await desk.draw(contract, 99)
    await desk.passes_to(JANUARY + 6 * HOURS)
    assert await desk.charges() == [("commitment", "90.00"), ("overage", "9.00")]
    assert await desk.shop.nanos(AccountKind.OVERDRAFT) == 0
    await desk.books_hold()


async def test_a_voided_commitment_can_t_be_drawn_from_any_more(desk: Desk) -> None:
    contract = await desk.sign(starts_on="2026-11-01", months=1)
    await desk.draw(contract, 27)
    desk.shop.clock.passes(hours=1)
    invoice = await desk.shop.close()
    void = {"reason": "agreed"}
    await desk.shop.seller.post(f"/v1/invoices/{invoice['id']}/void", void)
    await desk.work()
    await desk.work()
    (lot,) = (await desk.shown(contract))["periods"][0]["lots"]
    assert (lot["granted"], lot["left"], lot["taken_back"]) == ("90.00", "0.00", "90.00")
    assert await desk.shop.nanos(AccountKind.DEFERRED) == 0
    assert await desk.shop.nanos(AccountKind.COMMITMENT) == 0
    await desk.books_hold()


async def test_tax_that_a_commitment_s_price_holds_is_neither_revenue_nor_deferred(desk: Desk) -> None:
    await settle_in(desk.shop, prices_include_tax=True)
    contract = await desk.sign(
        starts_on="2026-11-01", months=1, terms={"commitment": {**PREPAID, "amounts": ["119.00"]}}
    )
    await desk.draw(contract, 81)
    desk.shop.clock.passes(hours=1)
    invoice = await desk.shop.close()
    assert (invoice["tax"]["amount"], invoice["amount_due"]) == ("19.00", "119.00")
    await desk.passes_to(DECEMBER + 6 * HOURS)
    assert await desk.shop.nanos(AccountKind.DEFERRED) == 0
    earned = [
        await desk.shop.nanos(kind)
        for kind in (AccountKind.REVENUE_TOKENS, AccountKind.REVENUE_COMMITMENTS, AccountKind.BREAKAGE)
    ]
    assert (sum(earned), await desk.shop.nanos(AccountKind.TAX_PAYABLE)) == (-100 * NANOS, -19 * NANOS)
    await desk.books_hold()
