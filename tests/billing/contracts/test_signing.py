"""Signing, amending and ending: what is refused leaves nothing behind, and what runs keeps the terms that it began with."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from headrace_billing.accounts import outbox
from headrace_billing.members.permission import Role
from headrace_contracts import channels
from headrace_contracts.access import decode_project
from tests.billing.contracts.desk import DECEMBER, JANUARY, POSTPAID, PREPAID, Desk
from tests.billing.members.team import joined
from tests.billing.seller import MODEL, Document

GPU = {
    "deployment": "millrace/chat",
    "profile": "h100",
    "accelerators": 1,
    "reserved_rate": "1",
    "on_demand_rate": "2",
}
LONG = {"share": "1", "periods": 12}
LEVEL = {
    "name": "availability",
    "deployment": "millrace/chat",
    "measure": "requests",
    "tiers": [{"below": "99", "credit": "10"}, {"below": "99.5", "credit": "25"}],
}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"terms": {}}, "contract_invalid"),
        ({"starts_on": "2026-12-02"}, "contract_invalid"),
        ({"starts_on": "2026-10-01"}, "contract_invalid"),
        ({"starts_on": "9999-12-01"}, "contract_invalid"),
        ({"cadence": "yearly"}, "contract_invalid"),
        ({"terms": {"commitment": {**PREPAID, "amounts": ["1"] * 4}}}, "contract_invalid"),
        ({"terms": {"commitment": {**POSTPAID, "when_used_up": "stop"}}}, "contract_invalid"),
        ({"terms": {"commitment": {**POSTPAID, "rollover": {"share": "1"}}}}, "contract_invalid"),
        ({"terms": {"commitment": {**PREPAID, "rollover": {"share": "1.01"}}}}, "contract_invalid"),
        ({"terms": {"commitment": {**PREPAID, "overage_times": "0"}}}, "contract_invalid"),
        ({"terms": {"commitment": {**PREPAID, "amounts": ["0"]}}}, "amount_invalid"),
        (
            {"terms": {"commitment": {**PREPAID, "amounts": ["1000000000"], "rollover": LONG}}},
            "contract_invalid",
        ),
        ({"terms": {"gpu_rates": [GPU, GPU]}}, "contract_invalid"),
        ({"terms": {"gpu_rates": [GPU], "service_levels": [LEVEL]}}, "contract_invalid"),
        ({"organization": "org_nowhere"}, "not_found"),
        ({"projects": ["prj_nowhere"]}, "not_found"),
        ({"currency": "EUR"}, "currency_mismatch"),
        ({"terms": {"commitment": PREPAID, "rates": ["0"]}}, "contract_invalid"),
        ({"discount": "1"}, "invalid_request"),
    ],
)
async def test_a_contract_that_can_t_bill_is_refused_and_leaves_nothing(
    desk: Desk, fields: Document, code: str
) -> None:
    assert (await desk.shop.seller.refused("/v1/contracts", desk.body(**fields)))[1] == code
    async with desk.shop.database.begin() as session:
        left = await session.execute(
            text("SELECT (SELECT count(*) FROM contracts) + (SELECT count(*) FROM wallets) - 1")
        )
        assert left.scalar_one() == 0


async def test_a_project_is_of_one_contract_at_a_time(desk: Desk) -> None:
    await desk.sign()
    refused = await desk.shop.seller.refused("/v1/contracts", desk.body(starts_on="2027-02-01"))
    assert refused == (409, "project_committed")
    assert (await desk.sign(starts_on="2027-03-01"))["status"] == "signed"


async def test_signing_the_same_twice_signs_once(desk: Desk) -> None:
    answers = [
        await desk.shop.seller.ask("POST", "/v1/contracts", desk.body(), **{"idempotency-key": "one"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert len((await desk.shop.seller.get("/v1/contracts"))["items"]) == 1


async def test_a_contract_of_the_running_month_bills_at_once_and_gateways_hear_of_it(desk: Desk) -> None:
    contract = await desk.sign(starts_on="2026-11-01")
    assert (contract["status"], await desk.charges()) == ("active", [("commitment", "90.00")])
    valkey, project = desk.shop.parts.valkey, desk.shop.customer.project
    record = decode_project((await valkey.hget(channels.project(project), "r")) or b"")
    assert (record.disposition, record.wallet, record.overage) == ("commitment", contract["wallet"], True)
    assert await valkey.hget(channels.wallet(contract["wallet"]), "bal") in (b"90000000", "90000000")


async def test_an_amendment_holds_from_a_later_period_on_and_never_for_one_that_has_begun(desk: Desk) -> None:
    contract = await desk.sign(starts_on="2026-11-01")
    path = f"/v1/contracts/{contract['id']}/amendments"
    stops = {"commitment": {**PREPAID, "amounts": ["45.00"], "when_used_up": "stop"}}
    for effective_on in ("2026-11-01", "2026-12-15", "2027-02-01"):
        amendment = {"effective_on": effective_on, "terms": stops, "reason": "less"}
        assert await desk.shop.seller.refused(path, amendment) == (409, "amendment_invalid")
    amendment = {"effective_on": "2026-12-01", "terms": {"commitment": POSTPAID}, "reason": "less"}
    assert await desk.shop.seller.refused(path, amendment) == (409, "amendment_invalid")
    assert (await desk.shop.seller.post(path, {**amendment, "terms": stops}))["version"] == 2
    await desk.passes_to(DECEMBER)
    assert await desk.charges() == [("commitment", "90.00"), ("commitment", "45.00")]
    shown = await desk.shown(contract)
    assert [period["version"] for period in shown["periods"]] == [1, 2]
    assert [version["reason"] for version in shown["versions"]] == ["signed", "less"]
    (project,) = (await desk.shop.seller.get(f"/v1/projects?organization={desk.shop.customer.org}"))["items"]
    record = await desk.shop.parts.valkey.hget(channels.project(project["id"]), "r")
    await outbox.push_waiting(desk.shop.database, desk.shop.parts.valkey)
    record = await desk.shop.parts.valkey.hget(channels.project(project["id"]), "r")
    assert not decode_project(record or b"").overage


async def test_a_contract_ends_early_where_a_period_ends(desk: Desk) -> None:
    contract = await desk.sign(starts_on="2026-11-01")
    path = f"/v1/contracts/{contract['id']}/end"
    for ends_on in ("2026-11-01", "2026-12-15", "2027-06-01"):
        refused = await desk.shop.seller.refused(path, {"ends_on": ends_on, "reason": "sold"})
        assert refused == (409, "amendment_invalid")
    ended = await desk.shop.seller.post(path, {"ends_on": "2026-12-01", "reason": "sold"})
    assert (ended["months"], ended["ends_on"]) == (1, "2026-12-01")
    await desk.passes_to(JANUARY)
    assert await desk.charges() == [("commitment", "90.00")]
    assert (await desk.shown(contract))["status"] == "ended"


async def price(desk: Desk, at: str) -> str:
    """Of output in the organisation's own list that is in force then, or everybody's."""
    books = (await desk.shop.seller.get("/v1/price-books"))["items"]
    held = [book for book in books if book["effective_at"] <= at]
    own = [book for book in held if book["organization"] is not None]
    newest = max(own or held, key=lambda book: (book["effective_at"], book["version"]))
    return str(newest["models"][MODEL]["output"])


async def test_rates_follow_the_periods_and_end_with_the_contract(desk: Desk) -> None:
    contract = await desk.sign(starts_on="2026-11-01", terms={"commitment": PREPAID, "rates": ["0.9", "0.8"]})
    moments = ("2026-11-24", "2026-12-02", "2027-01-02", "2027-02-02")
    assert [await price(desk, at) for at in moments] == ["81", "72", "72", "90"]
    await desk.shop.seller.post(
        f"/v1/contracts/{contract['id']}/end", {"ends_on": "2027-01-01", "reason": "sold"}
    )
    assert [await price(desk, at) for at in moments] == ["81", "72", "90", "90"]


@pytest.mark.parametrize(
    ("role", "reads"), [(Role.OWNER, True), (Role.FINANCE, True), (Role.DEVELOPER, False)]
)
async def test_the_customer_s_owner_and_finance_read_it_and_change_nothing(
    desk: Desk, role: Role, reads: bool
) -> None:
    contract = await desk.sign(starts_on="2026-11-01")
    member = await joined(desk.shop.seller, role, org=desk.shop.customer.org)
    for of in ("", "/standing", "/burn-down", "/service-credits"):
        answer = await member.ask("GET", f"/v1/contracts/{contract['id']}{of}")
        assert answer.is_success is reads, of
    ending = {"ends_on": "2026-12-01", "reason": "sold"}
    status, _ = await member.refused(f"/v1/contracts/{contract['id']}/end", ending)
    assert status == 403


async def test_thresholds_are_told_of_once_and_the_days_burn_down(desk: Desk) -> None:
    contract = await desk.sign()
    await desk.passes_to(DECEMBER)
    told = []
    for dollars, days in ((36, 1), (9, 2), (36, 3), (9, 4), (9, 5)):
        await desk.draw(contract, dollars, at=DECEMBER + timedelta(days=days))
        await desk.passes_to(DECEMBER + timedelta(days=days, hours=1))
        async with desk.shop.database.begin() as session:
            rows = await session.execute(
                text(
                    "SELECT data ->> 'percent' FROM webhook_messages WHERE type = 'contract.threshold_reached'"
                )
            )
            told.append(len(rows.all()))
    assert told == [0, 1, 2, 3, 3]
    days = (await desk.shown(contract, "/burn-down"))["items"]
    assert [(day["day"], day["left"]) for day in days] == [
        ("2026-12-02", "54.00"),
        ("2026-12-03", "45.00"),
        ("2026-12-04", "9.00"),
        ("2026-12-05", "0.00"),
        ("2026-12-06", "0.00"),
    ]
