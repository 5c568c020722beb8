"""Reconciling as it goes on: every stage with its time, and red for just what is wrong."""

from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.reconciliation.jobs import look_around
from headrace_billing.reconciliation.request import Status
from headrace_billing.reconciliation.stage import DAYS, due
from headrace_contracts.usage import TokenCounts
from tests.billing.clock import Clock
from tests.billing.ingest.usage import RECEIVED, Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Document, Seller

ALL = [
    "engine = events",
    "nothing kept aside",
    "outside meters' numbers",
    "events = rollups",
    "rollups = rated",
    "rated = ledger",
    "ledger = invoices",
    "invoices = Stripe",
]


async def look(seller: Seller) -> dict[str, Document]:
    answer = await seller.post("/v1/reconciliation/looks")
    assert answer == await seller.get("/v1/reconciliation/stages")
    stages = {stage["stage"]: stage for stage in answer["stages"]}
    assert list(stages) == ALL
    worst = "red" if "red" in {stage["status"] for stage in stages.values()} else "not red"
    assert (answer["status"] == "red") == (worst == "red")
    return stages


def red(stages: dict[str, Document]) -> list[str]:
    return [name for name, stage in stages.items() if stage["status"] == "red"]


async def sell(database: Database, gateway: Gateway, at: datetime = RECEIVED) -> None:
    event = gateway.event(received_at=at)
    await take(database, event)
    await tell(database, yielded(event))


async def test_books_that_add_up_are_green_from_the_engine_to_the_invoice(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    for days in (0, 1, 40):
        await sell(database, gateway, RECEIVED - timedelta(days=days))
    stages = await look(seller)
    # No Stripe account is connected, and that is said, too.
    assert stages.pop("invoices = Stripe")["status"] == "not_used"
    assert {stage["status"] for stage in stages.values()} == {"green"}
    assert {stage["as_of"] for stage in stages.values()} == {clock.now.isoformat()}
    (tokens,) = stages["engine = events"]["sides"]
    assert (tokens["left"], tokens["right"], tokens["holds"]) == ("30", "30", True)


async def test_the_stage_at_which_something_is_wrong_is_red_and_no_other(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    await sell(database, gateway)
    for statement, stage in (
        ("UPDATE usage_rollups SET tokens_reasoning = tokens_reasoning + 1", "events = rollups"),
        ("UPDATE usage_rollups_by_day SET charge_nanos = charge_nanos + 1", "rollups = rated"),
        (
            "UPDATE ledger_balances SET amount_nanos = amount_nanos + 1 WHERE kind = 'unbilled'",
            "ledger = invoices",
        ),
    ):
        async with database.begin() as session:
            await session.execute(text(statement))
        stages = await look(seller)
        assert red(stages) == [stage], statement
        assert [side["holds"] for side in stages[stage]["sides"]].count(False) == 1
        assert stages[stage]["culprits"][0]["reason"] == "books_differ"
        async with database.begin() as session:
            await session.execute(text(statement.replace("+ 1", "- 1")))
    assert red(await look(seller)) == []


async def test_an_engine_request_without_an_event_turns_its_day_red_until_two_people_have_said_that_it_is_lost(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    lost = gateway.event()
    await tell(database, yielded(lost))
    stages = await look(seller)
    assert red(stages) == ["engine = events"]
    days = {day["day"]: day["status"] for day in stages["engine = events"]["days"]}
    assert days.pop(RECEIVED.date().isoformat()) == "red"
    assert set(days.values()) == {"green"}
    await seller.post(
        "/v1/reconciliation/losses",
        {"attempt": f"{lost.id}.1", "reason": "disk", "declared_by": "Ada", "confirmed_by": "Grace"},
    )
    assert red(await look(seller)) == []


async def test_engines_that_tell_nothing_are_a_state_of_their_own_that_waits_for_nothing(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    await sell(database, gateway)
    await take(database, gateway.event(witnessed=False))
    stages = await look(seller)
    stage = stages.pop("engine = events")
    assert (stage["status"], stage["unwitnessed_requests"], stage["culprits"]) == ("unwitnessed", 1, [])
    assert [side["holds"] for side in stage["sides"]] == [True]
    assert {day["status"] for day in stage["days"]} == {"green", "unwitnessed"}
    assert stages.pop("invoices = Stripe")["status"] == "not_used"
    assert {other["status"] for other in stages.values()} == {"green"}
    assert (await seller.get("/v1/reconciliation/stages"))["status"] == "unwitnessed"


async def test_each_look_takes_the_recent_days_and_the_one_that_waited_longest(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    await sell(database, gateway, RECEIVED - timedelta(days=9))
    for _ in range(DAYS):
        await look_around(database, now=clock.now)
        clock.passes(seconds=30)
    stage = (await look(seller))["engine = events"]
    assert len(stage["days"]) == DAYS
    assert stage["newest"] == clock.now.isoformat()
    assert stage["as_of"] < stage["newest"]
    assert stage["sides"][0]["left"] == "15"


def test_a_red_day_is_looked_at_for_as_long_as_it_is_red() -> None:
    today = date(2026, 11, 23)
    at = datetime.combine(today, datetime.min.time())
    long_ago = today - timedelta(days=100)
    known = [(today - timedelta(days=n), at, Status.GREEN) for n in range(DAYS)]
    assert long_ago in due([*known, (long_ago, at - timedelta(hours=1), Status.RED)], today=today)
    for settled in (Status.GREEN, Status.UNWITNESSED):
        assert long_ago not in due([*known, (long_ago, at - timedelta(hours=1), settled)], today=today)


async def test_one_process_looks_at_a_time(database: Database, clock: Clock, seller: Seller) -> None:
    async with database.begin() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtext('headrace.reconciliation'))"))
        await look_around(database, now=clock.now)
    assert (await seller.get("/v1/reconciliation/stages"))["stages"] == []


async def conflict(database: Database, gateway: Gateway) -> str:
    event = gateway.event()
    other = gateway.event(request=event.id, sequence=event.sequence, tokens=TokenCounts(output_visible=6))
    await take(database, event, other)
    await tell(database, yielded(event))
    return event.id


def settlement(kind: str, name: str) -> Document:
    return {"kind": kind, "id": name, "reason": "a bug", "declared_by": "Ada", "confirmed_by": "Grace"}


async def test_a_conflict_stays_red_until_two_people_settle_it_and_a_new_one_is_red_again(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    request = await conflict(database, gateway)
    assert red(await look(seller)) == ["nothing kept aside"]
    # The database notes by its own clock when a conflict came, so what settles it must be later by that.
    async with database.begin() as session:
        await session.execute(text("UPDATE usage_conflicts SET stored_at = :at"), {"at": RECEIVED})
    await seller.post("/v1/reconciliation/settlements", settlement("conflict", request))
    assert red(await look(seller)) == []
    third = gateway.event(request=request, tokens=TokenCounts(output_visible=7))
    await take(database, third)
    stages = await look(seller)
    assert [culprit["id"] for culprit in stages["nothing kept aside"]["culprits"]] == [request]


async def test_what_is_quarantined_stays_red_until_two_people_settle_it(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    await take(database, b"{", b'{"id":"somebody"}')
    async with database.begin() as session:
        await session.execute(text("UPDATE usage_quarantine SET stored_at = :at"), {"at": RECEIVED})
    culprits = (await look(seller))["nothing kept aside"]["culprits"]
    assert len(culprits) == 2
    for culprit in culprits:
        await seller.post("/v1/reconciliation/settlements", settlement("quarantined", culprit["id"]))
    assert red(await look(seller)) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"confirmed_by": "ada"}, "settlement_needs_two"),
        ({"id": "nothing"}, "not_found"),
        ({"kind": "quarantined"}, "not_found"),
    ],
)
async def test_what_is_settled_by_one_person_or_is_no_matter_is_refused(
    seller: Seller, gateway: Gateway, database: Database, fields: dict[str, str], code: str
) -> None:
    request = await conflict(database, gateway)
    body = {**settlement("conflict", request), **fields}
    assert (await seller.refused("/v1/reconciliation/settlements", body))[1] == code
    assert red(await look(seller)) == ["nothing kept aside"]
