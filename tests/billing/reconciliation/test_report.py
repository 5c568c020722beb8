"""The report on real books: green when all adds up, and every culprit by name when not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_contracts.engine import EngineEnding, EngineRecord
from headrace_contracts.usage import Disposition, Ending, TokenCounts, UsageEvent
from tests.billing.clock import Clock
from tests.billing.ingest.usage import RECEIVED, Gateway, take
from tests.billing.reconciliation.engine import record, tell, yielded
from tests.billing.seller import Document, Seller

Report = Callable[..., Any]


async def report(seller: Seller, gateway: Gateway | None = None, **query: str) -> Document:
    if gateway is not None:
        query["organization"] = gateway.customer.org
    return await seller.get("/v1/reconciliation?" + "&".join(f"{k}={v}" for k, v in query.items()))


def codes(document: Document) -> dict[str, int]:
    return {reason["code"]: reason["count"] for reason in document["reasons"]}


async def test_an_organisation_without_usage_is_green(seller: Seller, gateway: Gateway) -> None:
    seen = await report(seller, gateway)
    assert (seen["status"], seen["totals"]["requests"], seen["unreconciled"]) == ("green", 0, [])


async def test_every_kind_of_request_adds_up_to_the_token(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    plain = gateway.event()
    bundled = gateway.event(disposition=Disposition.OUTCOME_BUNDLED, task="task_1")
    gone = gateway.event(ending=Ending.CLIENT_GONE)
    stopped = gateway.event(ending=Ending.BUDGET_STOPPED)
    lost = gateway.estimate(str(uuid4()))
    retried = gateway.event(attempts=2)
    failed = gateway.event(tokens=TokenCounts(), ending=Ending.UPSTREAM_FAILED)
    dead = gateway.event(ending=Ending.UPSTREAM_FAILED)
    await take(database, plain, bundled, gone, stopped, lost, retried, failed, dead)
    await tell(
        database,
        yielded(plain),
        yielded(bundled),
        yielded(gone, more_output=3),
        yielded(stopped, more_output=2),
        yielded(lost, more_output=7, ending=EngineEnding.ABORTED),
        yielded(retried),
        record(f"{retried.id}.1", prompt=10, output=1, ending=EngineEnding.ABORTED),
        yielded(dead, ending=EngineEnding.STARTED, output=0),
    )
    seen = await report(seller, gateway)
    totals = seen["totals"]
    assert seen["status"] == "green", seen["unreconciled"]
    assert totals["requests"] == 8
    assert totals["named_differences"] == {
        "abandoned_attempt": 11,
        "after_budget": 2,
        "after_hangup": 3,
        "engine_lost": -5,
        "estimate_gap": 7,
    }
    assert totals["billed_tokens"] == 7 * 15
    assert totals["engine_tokens"] == totals["billed_tokens"] + sum(totals["named_differences"].values())
    assert totals["unexplained_tokens"] == 0
    assert totals["events"] == totals["rollups"] == {"requests": 8, "tokens": 105}
    rows = {row["request_id"]: row for row in seen["requests"]}
    assert rows[gone.id]["differences"] == {"after_hangup": {"input": 0, "output": 3}}
    assert (rows[lost.id]["grade"], rows[plain.id]["grade"]) == ("estimated", "final")
    assert (rows[gone.id]["billed_output"], rows[gone.id]["engine_output"]) == (5, 8)


async def test_a_record_on_its_way_is_pending_and_its_absence_red(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    event = gateway.event(received_at=clock.now)
    await take(database, event)
    seen = await report(seller, gateway)
    assert (seen["status"], codes(seen)) == ("pending", {"awaiting_engine_record": 1})
    clock.passes(minutes=2)
    seen = await report(seller, gateway)
    assert (seen["status"], codes(seen)) == ("red", {"engine_record_missing": 1})
    assert seen["unreconciled"][0]["id"] == event.id
    await tell(database, yielded(event))
    assert (await report(seller, gateway))["status"] == "green"


async def test_engines_that_tell_nothing_are_counted_apart_and_hold_up_no_invoice(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    begun = clock.now.replace(day=1, hour=0, minute=0)
    theirs = [gateway.event(witnessed=False, received_at=begun) for _ in range(2)]
    ours = gateway.event(received_at=begun)
    await take(database, *theirs, ours)
    await tell(database, yielded(ours))
    seen = await report(seller, gateway)
    assert (seen["status"], seen["reasons"]) == ("unwitnessed", [])
    totals = seen["totals"]
    assert totals["unwitnessed"] == {"requests": 2, "tokens": 30}
    assert (totals["engine_tokens"], totals["billed_tokens"], totals["unexplained_tokens"]) == (15, 45, 0)
    assert totals["events"] == {"requests": 3, "tokens": 45}
    statuses = {row["request_id"]: row["status"] for row in seen["requests"]}
    assert statuses == {**dict.fromkeys((event.id for event in theirs), "unwitnessed"), ours.id: "green"}
    invoice = await seller.post("/v1/periods/close", {"organization": gateway.customer.org})
    assert invoice["status"] != "draft"


async def test_an_engine_of_ours_that_is_silent_is_red_beside_one_that_tells_nothing(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    await take(database, gateway.event(witnessed=False), silent := gateway.event())
    seen = await report(seller, gateway)
    assert (seen["status"], codes(seen)) == ("red", {"engine_record_missing": 1})
    assert seen["unreconciled"][0]["id"] == silent.id


@pytest.mark.parametrize(
    ("more", "code"), [({"more_output": -1}, "overbilled"), ({"more_input": 1}, "unexplained")]
)
async def test_a_completed_request_that_differs_is_red_by_name(
    seller: Seller, gateway: Gateway, database: Database, more: dict[str, int], code: str
) -> None:
    event = gateway.event()
    await take(database, event)
    await tell(database, yielded(event, **more))
    seen = await report(seller, gateway)
    assert (seen["status"], codes(seen)) == ("red", {code: 1})
    assert seen["unreconciled"] == [
        {"id": event.id, "reason": code, "status": "red", "detail": seen["unreconciled"][0]["detail"]}
    ]


async def test_only_the_organisation_that_it_touches_is_red(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    other = Gateway(await seller.customer(), gateway.price_book, boot="boot-2")
    bad, good = gateway.event(), other.event()
    await take(database, bad, good)
    await tell(database, yielded(bad, more_output=-1), yielded(good))
    assert (await report(seller, gateway))["status"] == "red"
    assert (await report(seller, other))["status"] == "green"
    assert (await report(seller))["status"] == "red"


class TestEngineRequestWithoutAnEvent:
    """Lost, or not yet."""

    @pytest.fixture
    async def orphan(self, gateway: Gateway, database: Database, clock: Clock) -> EngineRecord:
        known = gateway.event(received_at=clock.now - timedelta(minutes=30))
        await take(database, known)
        orphan = record(f"{uuid4()}.1", at=clock.now)
        await tell(database, yielded(known), orphan)
        return orphan

    async def test_it_is_red_once_its_event_is_overdue(
        self, seller: Seller, gateway: Gateway, clock: Clock, orphan: EngineRecord
    ) -> None:
        assert (await report(seller, gateway))["status"] == "green"
        clock.passes(minutes=3)
        seen = await report(seller, gateway)
        assert (seen["status"], codes(seen)) == ("red", {"lost": 1})
        assert seen["unreconciled"][0]["id"] == orphan.attempt
        assert seen["totals"]["unexplained_tokens"] == 15

    async def test_it_is_nobodys_who_did_not_use_that_deployment(
        self, seller: Seller, gateway: Gateway, clock: Clock, database: Database, orphan: EngineRecord
    ) -> None:
        other = Gateway(await seller.customer(), gateway.price_book, boot="boot-2")
        event = other.event(deployment="dep-2")
        await take(database, event)
        await tell(database, yielded(event, deployment="dep-2"))
        clock.passes(minutes=3)
        assert (await report(seller, other))["status"] == "green"
        assert codes(await report(seller)) == {"lost": 1}
        assert orphan.deployment == "dep-1"

    async def test_a_late_event_mends_it(
        self, seller: Seller, gateway: Gateway, clock: Clock, database: Database, orphan: EngineRecord
    ) -> None:
        clock.passes(minutes=3)
        await take(database, gateway.event(request=orphan.attempt[:-2], received_at=clock.now))
        assert (await report(seller, gateway))["status"] == "green"

    async def test_two_people_may_declare_it_lost(
        self, seller: Seller, gateway: Gateway, clock: Clock, orphan: EngineRecord
    ) -> None:
        clock.passes(minutes=3)
        body = {"attempt": orphan.attempt, "reason": "node and disk gone", "declared_by": "Ada"}
        alone = await seller.refused("/v1/reconciliation/losses", {**body, "confirmed_by": "ada"})
        assert alone == (422, "loss_needs_two")
        await seller.post("/v1/reconciliation/losses", {**body, "confirmed_by": "Grace"})
        assert (await report(seller, gateway))["status"] == "green"
        everything = await report(seller)
        assert everything["status"] == "green"
        assert everything["totals"]["named_differences"] == {"declared_lost": 15}

    async def test_what_was_metered_can_not_be_declared_lost(
        self, seller: Seller, gateway: Gateway, database: Database
    ) -> None:
        event = gateway.event()
        await take(database, event)
        await tell(database, yielded(event))
        body = {"reason": "x", "declared_by": "Ada", "confirmed_by": "Grace"}
        metered = {**body, "attempt": f"{event.id}.1"}
        assert await seller.refused("/v1/reconciliation/losses", metered) == (409, "not_lost")
        unknown = {**body, "attempt": f"{uuid4()}.1"}
        assert await seller.refused("/v1/reconciliation/losses", unknown) == (404, "not_found")

    async def test_one_that_only_started_may_still_be_running(
        self, seller: Seller, gateway: Gateway, clock: Clock, database: Database
    ) -> None:
        known = gateway.event()
        await take(database, known)
        started = record(f"{uuid4()}.1", ending=EngineEnding.STARTED, output=0, at=clock.now)
        await tell(database, yielded(known), started)
        clock.passes(minutes=119)
        assert (await report(seller, gateway))["status"] == "green"
        clock.passes(minutes=1)
        assert codes(await report(seller, gateway)) == {"lost": 1}


async def test_probes_are_named_and_are_nobodys(seller: Seller, gateway: Gateway, database: Database) -> None:
    event = gateway.event()
    await take(database, event)
    await tell(database, yielded(event), record("cmpl-warm-up", prompt=3, output=1, probe=True))
    everything = await report(seller)
    assert (everything["status"], everything["totals"]["named_differences"]) == ("green", {"probe": 4})
    assert everything["totals"]["engine_tokens"] == 15 + 4
    assert (await report(seller, gateway))["totals"]["engine_tokens"] == 15


async def test_a_conflicting_event_is_red(seller: Seller, gateway: Gateway, database: Database) -> None:
    event = gateway.event()
    await take(database, event)
    await take(database, replace_tokens(event, TokenCounts(input_uncached=10, output_visible=9)))
    await tell(database, yielded(event))
    assert codes(await report(seller, gateway)) == {"conflict": 1}


async def test_a_quarantined_event_is_red_for_the_one_that_it_names(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    other = Gateway(await seller.customer(), gateway.price_book, boot="boot-2")
    bad = gateway.event(price_book="pb_nobody")
    await take(database, bad)
    query = {"start": (RECEIVED - timedelta(days=36_500)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    seen = await report(seller, gateway, **query)
    assert codes(seen) == {"quarantined": 1}
    assert seen["unreconciled"][0]["id"] == bad.id
    assert (await report(seller, other, **query))["status"] == "green"


async def test_a_quarantined_event_that_comes_again_and_can_be_stored_is_forgiven(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    good = gateway.event(received_at=clock.now)
    await take(database, msgspec.structs.replace(good, price_book="pb_nobody"))
    await tell(database, yielded(good))
    clock.passes(minutes=5)
    assert codes(await report(seller, gateway)) == {"quarantined": 1}
    await take(database, good)
    assert (await report(seller, gateway))["status"] == "green"


async def test_a_quarantined_event_whose_request_is_declared_lost_is_forgiven(
    seller: Seller, gateway: Gateway, database: Database, clock: Clock
) -> None:
    known, bad = gateway.event(), gateway.event(price_book="pb_nobody", received_at=clock.now)
    await take(database, known, bad)
    await tell(database, yielded(known), yielded(bad))
    clock.passes(minutes=5)
    assert codes(await report(seller, gateway)) == {"lost": 1, "quarantined": 1}
    people = {"declared_by": "Ada", "confirmed_by": "Grace"}
    loss = {"attempt": f"{bad.id}.1", "reason": "price book withdrawn", **people}
    await seller.post("/v1/reconciliation/losses", loss)
    assert (await report(seller, gateway))["status"] == "green"


BROKEN_BOOKS = {
    "rollup": "UPDATE usage_rollups SET requests = requests + 1",
    "tokens of a rollup": "UPDATE usage_rollups SET tokens_reasoning = tokens_reasoning + 1",
    "rating": "UPDATE rated_usage SET charge_nanos = charge_nanos + 1 WHERE token_class = 'output'",
    "balance": "UPDATE ledger_balances SET amount_nanos = amount_nanos + 1 WHERE kind = 'unbilled'",
    "applied credit": "UPDATE ledger_balances SET amount_nanos = amount_nanos + 1 WHERE kind = 'wallet_applied'",
}


@pytest.mark.parametrize("statement", BROKEN_BOOKS.values(), ids=BROKEN_BOOKS)
async def test_books_that_differ_by_one_are_red(
    seller: Seller, gateway: Gateway, database: Database, statement: str
) -> None:
    event = gateway.event()
    await take(database, event)
    await tell(database, yielded(event))
    assert (await report(seller, gateway))["status"] == "green"
    async with database.begin() as session:
        await session.execute(text(statement))
    seen = await report(seller, gateway)
    assert seen["status"] == "red"
    assert set(codes(seen)) == {"books_differ"}
    assert [check for check in seen["checks"] if not check["holds"]]


async def test_the_report_is_of_requests_received_from_start_until_before_end(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    events = [gateway.event(received_at=RECEIVED + timedelta(minutes=n)) for n in range(4)]
    await take(database, *events)
    await tell(database, *(yielded(event) for event in events))
    start, end = ((RECEIVED + timedelta(minutes=n)).strftime("%Y-%m-%dT%H:%M:%S.%fZ") for n in (1, 3))
    seen = await report(seller, gateway, start=start, end=end)
    assert seen["status"] == "green", seen
    assert seen["totals"]["requests"] == 2
    assert {row["request_id"] for row in seen["requests"]} == {event.id for event in events[1:3]}


async def test_pages_of_requests_follow_each_other(
    seller: Seller, gateway: Gateway, database: Database
) -> None:
    events = [gateway.event() for _ in range(5)]
    await take(database, *events)
    await tell(database, *(yielded(event) for event in events))
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = await report(seller, gateway, **query)
        seen += [row["request_id"] for row in page["requests"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert seen == sorted((event.id for event in events), reverse=True)


async def test_only_the_seller_sees_it(seller: Seller, gateway: Gateway) -> None:
    customer = replace(seller, token=gateway.customer.secret)
    assert await customer.refused("/v1/reconciliation", None, method="GET") == (403, "forbidden")


def replace_tokens(event: UsageEvent, tokens: TokenCounts) -> UsageEvent:
    return msgspec.structs.replace(event, tokens=tokens)
