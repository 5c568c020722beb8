"""What outside meters report is booked as other usage is, item by item, and never twice."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from headrace_billing.database import Database
from tests.billing.clock import Clock
from tests.billing.ingest.test_batch import INPUT_NANOS, OUTPUT_NANOS, balances
from tests.billing.meters.reporter import PATH, Reporter, outcomes
from tests.billing.seller import ADMIN_TOKEN, MODEL, NOW, PRICES, Seller

SPENT = 10 * INPUT_NANOS + 5 * OUTPUT_NANOS


async def quarantined(database: Database) -> int:
    async with database.begin() as session:
        found = await session.execute(text("SELECT count(*) FROM usage_quarantine"))
        return int(found.scalar_one())


async def test_what_a_meter_reports_is_priced_rolled_up_and_charged(
    database: Database, seller: Seller, reporter: Reporter
) -> None:
    (result,) = await reporter.report(reporter.event(data={"session": "s1"}))
    assert result["outcome"] == "accepted"
    assert (await balances(database))["unbilled"] == SPENT
    usage = await seller.get(
        "/v1/usage?start=2026-11-23T00:00:00Z&end=2026-11-24T00:00:00Z&group_by=session"
        f"&project={reporter.customer.project}"
    )
    assert [(one["session"], one["requests"], one["tokens"]["total"]) for one in usage["items"]] == [
        ("s1", 1, 15)
    ]
    assert (await seller.get("/v1/reconciliation"))["status"] == "green"


async def test_a_single_event_may_come_by_itself(reporter: Reporter) -> None:
    answer = await reporter.http.post(
        PATH, json=reporter.event(), headers=reporter.headers("application/cloudevents+json; charset=utf-8")
    )
    assert (answer.status_code, outcomes(answer.json()["results"])) == (200, ["accepted"])


async def test_an_event_that_comes_again_is_a_duplicate_whatever_a_broker_added_on_the_way(
    database: Database, reporter: Reporter
) -> None:
    event = reporter.event()
    await reporter.report(event)
    before = await balances(database)
    later = {**event, "knativearrivaltime": "2026-11-23T12:00:00Z", "time": "2026-11-23T13:59:00+02:00"}
    answer = await reporter.send(event, later)
    assert (answer.status_code, outcomes(answer.json()["results"])) == (200, ["duplicate", "duplicate"])
    assert await balances(database) == before


async def test_the_same_id_with_other_content_is_a_conflict_that_changes_nothing_and_turns_the_books_red(
    database: Database, seller: Seller, reporter: Reporter
) -> None:
    event = reporter.event()
    await reporter.report(event)
    before = await balances(database)
    event["data"]["tokens"]["output_visible"] = 6
    answer = await reporter.send(event)
    assert answer.status_code == 207
    (result,) = answer.json()["results"]
    assert (result["outcome"], result["code"]) == ("conflict", "conflict")
    assert await balances(database) == before
    report = await seller.get("/v1/reconciliation")
    assert (report["status"], report["unreconciled"][0]["id"]) == ("red", result["event"])


async def test_ids_belong_to_their_source_and_to_their_meter(reporter: Reporter, seller: Seller) -> None:
    other = await seller.post("/v1/meters", {"name": "rack 2"})
    again = Reporter(reporter.http, other["id"], other["token"], reporter.customer)
    event = reporter.event()
    assert outcomes(await reporter.report(event, {**event, "source": "//elsewhere"})) == ["accepted"] * 2
    assert outcomes(await again.report(event)) == ["accepted"]


async def test_what_is_sent_again_with_a_new_token_is_still_known(reporter: Reporter, seller: Seller) -> None:
    event = reporter.event()
    await reporter.report(event)
    old = reporter.headers()
    reporter.token = (await seller.post(f"/v1/meters/{reporter.id}/rotate"))["token"]
    assert outcomes(await reporter.report(event)) == ["duplicate"]
    assert (await reporter.http.post(PATH, json=[event], headers=old)).status_code == 401


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "a quantity below zero": ("quantity_invalid", {"data.tokens": {"output_visible": -1}}),
    "an absurd quantity": ("quantity_invalid", {"data.tokens": {"output_visible": 10**13}}),
    "a quantity beyond every integer": ("quantity_invalid", {"data.tokens": {"output_visible": 10**30}}),
    "half a token": ("quantity_invalid", {"data.tokens": {"output_visible": 1.5}}),
    "a quantity in words": ("quantity_invalid", {"data.tokens": {"output_visible": "5"}}),
    "a token class that is none": ("unknown_field", {"data.tokens": {"output": 5}}),
    "a field of the data that is none": ("unknown_field", {"data.tenant": "x"}),
    "no tokens at all": ("malformed", {"data.tokens": None}),
    "no data": ("malformed", {"data": None}),
    "a time that is none": ("malformed", {"time": "yesterday"}),
    "a time without an offset": ("malformed", {"time": "2026-11-23T11:00:00"}),
    "a clock that is ahead": ("time_in_the_future", {"time": (NOW + timedelta(minutes=6)).isoformat()}),
    "a clock that stands": ("too_old", {"time": "2025-01-01T00:00:00Z"}),
    "a clock that never was set": ("attribute_invalid", {"time": "1970-01-01T00:00:00Z"}),
    "another type": ("type_unknown", {"type": "com.example.usage"}),
    "another version": ("attribute_invalid", {"specversion": "0.3"}),
    "an empty id": ("attribute_invalid", {"id": ""}),
    "an id with a control character": ("attribute_invalid", {"id": "a\u0000b"}),
    "a source of great length": ("attribute_invalid", {"source": "s" * 201}),
    "a number that is none": ("attribute_invalid", {"sequence": "07"}),
    "another content type": ("attribute_invalid", {"datacontenttype": "text/xml"}),
    "a session of great length": ("attribute_invalid", {"data.session": "s" * 257}),
    "a session with a null byte": ("attribute_invalid", {"data.session": "a\u0000b"}),
    "nobody's project": ("unknown_project", {"data.project": "prj_nobody"}),
    "nobody's key": ("unknown_key", {"data.key": "key_nobody"}),
    "a model without a price": ("not_priced", {"data.model": "glm-unpriced"}),
}


def spoiled(event: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    event = {**event, "data": dict(event["data"])}
    for place, value in changes.items():
        outer, _, inner = place.rpartition(".")
        target = event["data"] if outer else event
        if value is None:
            del target[inner]
        else:
            target[inner] = value
    return event


async def test_a_bad_item_is_refused_by_its_code_and_leaves_nothing_behind_while_the_rest_is_booked(
    database: Database, seller: Seller, reporter: Reporter
) -> None:
    bad = {what: spoiled(reporter.event(), changes) for what, (_, changes) in BAD.items()}
    answer = await reporter.send(reporter.event(), *bad.values(), reporter.event())
    first, *refused, last = answer.json()["results"]
    assert answer.status_code == 207
    assert outcomes([first, last]) == ["accepted", "accepted"]
    codes = {what: result.get("code") for what, result in zip(bad, refused, strict=True)}
    assert codes == {what: code for what, (code, _) in BAD.items()}
    for event, result in zip(bad.values(), refused, strict=True):
        assert (result["outcome"], result["id"]) == ("refused", event["id"])
        assert len(result["detail"]) > 20
    assert (await balances(database))["unbilled"] == 2 * SPENT
    assert await quarantined(database) == 0
    assert (await seller.get("/v1/reconciliation"))["status"] == "green"


async def test_an_item_that_is_no_object_is_refused_and_the_rest_is_booked(reporter: Reporter) -> None:
    assert outcomes(await reporter.report(reporter.event(), 7, None, [], reporter.event())) == [
        "accepted",
        "refused",
        "refused",
        "refused",
        "accepted",
    ]


async def test_a_meter_of_one_organization_reports_for_no_other(reporter: Reporter, seller: Seller) -> None:
    theirs = await seller.customer()
    meter = await seller.post("/v1/meters", {"name": "theirs", "organization": theirs.org})
    own = Reporter(reporter.http, meter["id"], meter["token"], theirs)
    results = await own.report(own.event(), own.event(data={"project": reporter.customer.project}))
    assert [one.get("code") for one in results] == [None, "unknown_project"]


async def test_what_the_database_refuses_is_kept_aside_and_the_rest_goes_through(
    database: Database, seller: Seller, reporter: Reporter
) -> None:
    async with database.begin() as session:
        await session.execute(
            text("ALTER TABLE usage_events ADD CONSTRAINT odd CHECK (tokens_output_visible <> 666)")
        )
    bad = reporter.event(tokens={"output_visible": 666})
    results = await reporter.report(reporter.event(), reporter.event(), bad, reporter.event())
    assert outcomes(results) == ["accepted", "accepted", "quarantined", "accepted"]
    report = await seller.get(f"/v1/reconciliation?organization={reporter.customer.org}")
    assert [(one["id"], one["reason"]) for one in report["unreconciled"]] == [
        (results[2]["event"], "quarantined")
    ]
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE usage_events DROP CONSTRAINT odd"))
    assert outcomes(await reporter.report(bad)) == ["accepted"]
    assert (await seller.get("/v1/reconciliation"))["status"] == "green"


async def test_usage_is_priced_by_the_book_that_held_when_it_was_used(
    database: Database, seller: Seller, reporter: Reporter
) -> None:
    await seller.post(
        "/v1/price-books",
        {
            "currency": "USD",
            "models": {MODEL: dict.fromkeys(PRICES, "1")},
            "confirm_large_changes": True,
        },
    )
    first = reporter.event(at=NOW - timedelta(hours=1))
    again = {**first, "time": NOW.isoformat()}
    results = await reporter.report(first, reporter.event(at=NOW), again)
    assert outcomes(results) == ["accepted", "accepted", "conflict"]
    assert (await balances(database))["unbilled"] == SPENT + 15 * 1000


async def test_only_a_meters_token_reports_and_it_does_nothing_else(
    reporter: Reporter, seller: Seller
) -> None:
    for token in (ADMIN_TOKEN, reporter.customer.secret, "hm-unknown"):
        answer = await reporter.http.post(
            PATH, json=[reporter.event()], headers={**reporter.headers(), "authorization": f"Bearer {token}"}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert (await Seller(seller.http, reporter.token).refused("/v1/meters", {"name": "x"}))[0] == 401
    await seller.post(f"/v1/meters/{reporter.id}/revoke")
    assert (await reporter.http.post(PATH, json=[], headers=reporter.headers())).status_code == 401
    listed = await seller.get("/v1/meters")
    assert reporter.token not in json.dumps(listed)
    assert listed["items"][0]["revoked_at"] is not None


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"[]", "media_type_unsupported"),
        ("application/cloudevents-batch+json", b"{", "invalid_request"),
        ("application/cloudevents-batch+json", b'{"events":[]}', "invalid_request"),
        ("application/cloudevents-batch+json", msgspec.json.encode([0] * 1001), "invalid_request"),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(
    reporter: Reporter, content_type: str, body: bytes, code: str
) -> None:
    answer = await reporter.http.post(PATH, content=body, headers=reporter.headers(content_type))
    assert (answer.json()["code"], 400 <= answer.status_code < 500) == (code, True)


async def test_usage_of_a_period_that_is_invoiced_becomes_an_adjustment_on_the_next_invoice(
    seller: Seller, reporter: Reporter, clock: Clock
) -> None:
    at = NOW - timedelta(days=20)
    tokens: dict[str, object] = {"output_visible": 1_000_000}
    await reporter.report(reporter.event(at=at, tokens=tokens))
    close = {"organization": reporter.customer.org}
    first = await seller.post("/v1/periods/close", {**close, "end": (NOW - timedelta(days=10)).isoformat()})
    await reporter.report(reporter.event(at=at, tokens=tokens))
    clock.passes(hours=1)
    second = await seller.post("/v1/periods/close", close)
    assert (first["total"], second["total"]) == ("90.00", "90.00")
    (line,) = second["lines"]
    assert first["period"]["start"][:10] in json.dumps(line), line
    assert (await seller.get(f"/v1/reconciliation?organization={reporter.customer.org}"))["status"] == "green"
