"""Service levels: measured by requests and minutes, credited once a month, taken back by two members alone."""

from datetime import UTC, datetime, timedelta

import pytest

from headrace_billing.members.permission import Role
from headrace_contracts.usage import Disposition, Ending, TokenCounts
from tests.billing.contracts.desk import DECEMBER, JANUARY, Desk
from tests.billing.contracts.test_gpu_time import DEPLOYMENT, RATES, ran
from tests.billing.ingest.usage import take
from tests.billing.members.team import joined
from tests.billing.seller import Document

# Tokens of members, which some of this needs, do not live until a later month is over.
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
HOURS, MINUTES = timedelta(hours=1), timedelta(minutes=1)
AVAILABLE = {
    "name": "availability",
    "deployment": DEPLOYMENT,
    "measure": "requests",
    "tiers": [{"below": "99", "credit": "10"}, {"below": "75", "credit": "25"}],
}
FAST = {**AVAILABLE, "name": "first-token", "measure": "first_token", "within_ms": 500}


def terms(*levels: Document, **fields: object) -> Document:
    return {"gpu_rates": [RATES], "service_levels": list(levels), **fields}


async def ask(
    desk: Desk, at: datetime, *, ending: Ending = Ending.COMPLETED, first_token_ms: int | None = None
) -> None:
    received_us = int(at.timestamp() * 1_000_000)
    await desk.shop.sell(
        TokenCounts(output_visible=1),
        at=at,
        disposition=Disposition.PAYG,
        deployment=DEPLOYMENT,
        ending=ending,
        first_token_at_us=None if first_token_ms is None else received_us + first_token_ms * 1000,
    )


async def attained(desk: Desk, contract: Document) -> Document:
    (found,) = (await desk.shown(contract, "/service-levels?month=2026-12"))["items"]
    return dict(found)


async def test_a_month_below_its_level_is_credited_once_on_the_next_invoice(desk: Desk) -> None:
    contract = await desk.sign(terms=terms(AVAILABLE))
    for minute in range(9):
        await ask(desk, DECEMBER + minute * MINUTES)
    await ask(desk, DECEMBER + 9 * MINUTES, ending=Ending.UPSTREAM_FAILED)
    await desk.passes_to(JANUARY + 4 * HOURS)
    assert await desk.charges() == []
    for hours in (6, 7, 31):
        await desk.passes_to(JANUARY + hours * HOURS)
    (credit,) = (await desk.shown(contract, "/service-credits"))["items"]
    assert (credit["attained_percent"], credit["fee"], credit["amount"]) == ("90", "1488.00", "148.80")
    assert await desk.charges() == [("gpu_time", "1488.00"), ("service_credit", "-148.80")]
    invoice = await desk.shop.close(end=JANUARY.isoformat())
    assert ("Framework 2027: service credit for availability, 2026-12", "-148.80") in [
        (line["description"], line["amount"]) for line in invoice["lines"]
    ]
    await desk.books_hold()


async def test_the_worst_breach_decides_and_a_cap_holds(desk: Desk) -> None:
    await desk.sign(terms=terms(AVAILABLE, credit_cap="5"))
    await ask(desk, DECEMBER)
    await ask(desk, DECEMBER + MINUTES, ending=Ending.TIMED_OUT)
    await desk.passes_to(JANUARY + 6 * HOURS)
    assert ("service_credit", "-74.40") in await desk.charges()


async def test_what_the_customer_did_itself_and_declared_maintenance_do_not_count(desk: Desk) -> None:
    contract = await desk.sign(terms=terms(AVAILABLE))
    seller = desk.shop.seller
    window = {
        "deployment": DEPLOYMENT,
        "start": (DECEMBER + 10 * MINUTES).isoformat(),
        "end": (DECEMBER + 20 * MINUTES).isoformat(),
        "reason": "new drivers",
    }
    await seller.post("/v1/maintenance-windows", window)
    await ask(desk, DECEMBER, ending=Ending.CLIENT_GONE)
    await ask(desk, DECEMBER + MINUTES, ending=Ending.BUDGET_STOPPED)
    await ask(desk, DECEMBER + 12 * MINUTES, ending=Ending.UPSTREAM_FAILED)
    await desk.passes_to(DECEMBER + 30 * HOURS)
    found = await attained(desk, contract)
    assert (found["attained_percent"], found["counted"], found["minutes_excluded"]) == ("100", 2, 10)
    assert [window["reason"] for window in found["maintenance"]] == ["new drivers"]
    # Nobody excuses afterwards what went wrong.
    assert await seller.refused("/v1/maintenance-windows", window) == (422, "maintenance_invalid")
    listed = await seller.get(f"/v1/maintenance-windows?deployment={DEPLOYMENT}&month=2026-12")
    assert len(listed["items"]) == 1


async def test_first_tokens_count_where_somebody_waited_for_one(desk: Desk) -> None:
    contract = await desk.sign(terms=terms(FAST))
    await ask(desk, DECEMBER, first_token_ms=500)
    await ask(desk, DECEMBER + MINUTES, first_token_ms=501)
    await ask(desk, DECEMBER + 2 * MINUTES)
    await ask(desk, DECEMBER + 3 * MINUTES, ending=Ending.TIMED_OUT)
    await desk.passes_to(DECEMBER + 2 * HOURS)
    found = await attained(desk, contract)
    assert (found["good"], found["counted"]) == (1, 3)
    (hour,) = found["hours"]
    assert (hour["requests"], hour["good"], hour["minutes_down"]) == (3, 1, 2)


async def test_an_hour_that_nobody_measured_is_the_customer_s_and_the_doubt_is_told(desk: Desk) -> None:
    contract = await desk.sign(terms=terms({**AVAILABLE, "measure": "minutes"}))
    await ran(desk, DECEMBER, 2)
    await ran(desk, DECEMBER + 1 * HOURS, 2)
    await ask(desk, DECEMBER + 61 * MINUTES, ending=Ending.UPSTREAM_FAILED)
    await desk.passes_to(DECEMBER + 3 * HOURS)
    found = await attained(desk, contract)
    assert (found["good"], found["counted"], found["in_doubt"]) == (119, 180, 60)


async def test_a_request_whose_end_nobody_saw_is_in_doubt_and_not_good(desk: Desk) -> None:
    contract = await desk.sign(terms=terms(AVAILABLE))
    estimate = desk.shop.gateway.estimate(
        "01000000-0000-7000-8000-000000000001", received_at=DECEMBER, deployment=DEPLOYMENT
    )
    await take(desk.shop.database, estimate)
    await desk.passes_to(DECEMBER + 2 * HOURS)
    found = await attained(desk, contract)
    assert (found["good"], found["counted"], found["in_doubt"]) == (0, 1, 1)


async def test_two_members_take_a_credit_back_and_the_month_is_assessed_anew_by_its_new_figures(
    desk: Desk,
) -> None:
    contract = await desk.sign(starts_on="2026-11-01", terms=terms(AVAILABLE))
    await ask(desk, NOVEMBER, ending=Ending.UPSTREAM_FAILED)
    await ask(desk, NOVEMBER + MINUTES)
    await desk.passes_to(DECEMBER + 6 * HOURS)
    (credit,) = (await desk.shown(contract, "/service-credits"))["items"]
    assert credit["amount"] == "360.00"
    # More requests come late: half of them failed before, a fifth now.
    for minute in range(2, 5):
        await ask(desk, NOVEMBER + minute * MINUTES)
    finance = await joined(desk.shop.seller, Role.FINANCE)
    other = await joined(desk.shop.seller, Role.FINANCE, name="Bo")
    path = f"/v1/contracts/{contract['id']}/service-credits/{credit['id']}/reverse"
    approval = (await finance.post(path, {"reason": "late events"}))["approval"]
    approve = f"/v1/approvals/{approval['id']}/approve"
    assert await finance.refused(approve, None) == (403, "approver_is_requester")
    assert len(await desk.charges()) == 2
    await other.post(approve)
    assert await finance.refused(path, {"reason": "again"}) == (409, "credit_reversed")
    await desk.passes_to(DECEMBER + 7 * HOURS)
    await desk.passes_to(DECEMBER + 31 * HOURS)
    amounts = [amount for kind, amount in await desk.charges() if kind == "service_credit"]
    assert sorted(amounts) == ["-144.00", "-360.00", "360.00"]
    await desk.books_hold()


async def test_a_credit_that_was_taken_back_is_not_given_again_for_the_same_figures(desk: Desk) -> None:
    contract = await desk.sign(starts_on="2026-11-01", terms=terms(AVAILABLE))
    await ask(desk, NOVEMBER, ending=Ending.UPSTREAM_FAILED)
    await desk.passes_to(DECEMBER + 6 * HOURS)
    (credit,) = (await desk.shown(contract, "/service-credits"))["items"]
    asks = await joined(desk.shop.seller, Role.FINANCE)
    agrees = await joined(desk.shop.seller, Role.FINANCE, name="Bo")
    path = f"/v1/contracts/{contract['id']}/service-credits/{credit['id']}/reverse"
    approval = (await asks.post(path, {"reason": "it was the customer's own network"}))["approval"]
    await agrees.post(f"/v1/approvals/{approval['id']}/approve")
    await desk.passes_to(DECEMBER + 31 * HOURS)
    assert [amount for kind, amount in await desk.charges() if kind == "service_credit"] == [
        "-360.00",
        "360.00",
    ]


@pytest.mark.parametrize("fields", [{"within_ms": 5}, {"measure": "first_token"}])
async def test_a_level_in_time_names_its_time_and_no_other_does(desk: Desk, fields: Document) -> None:
    body = desk.body(terms=terms({**AVAILABLE, **fields}))
    assert await desk.shop.seller.refused("/v1/contracts", body) == (400, "invalid_request")
