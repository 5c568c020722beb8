"""Usage that comes too late needs two people, and usage that is too old comes in no more; ids are known for longer."""

from datetime import timedelta
from typing import Any

import pytest

from headrace_billing.database import Database
from headrace_billing.meters.backfill import LATE_WINDOW, REMEMBERED
from tests.billing.clock import Clock
from tests.billing.ingest.test_batch import balances
from tests.billing.meters.reporter import Reporter, outcomes
from tests.billing.seller import NOW, Document, Seller


def codes(results: list[Document]) -> list[str | None]:
    return [result.get("code") for result in results]


async def open_backfill(seller: Seller, reporter: Reporter, **fields: Any) -> Document:
    return await seller.post("/v1/backfills", agreement(reporter, **fields))


def agreement(reporter: Reporter, **fields: Any) -> Document:
    return {
        "meter": reporter.id,
        "start": (NOW - timedelta(days=100)).isoformat(),
        "end": (NOW - timedelta(days=50)).isoformat(),
        "reason": "rack 1 was cut off",
        "requested_by": "Ada",
        "approved_by": "Grace",
        **fields,
    }


async def test_usage_of_the_last_35_days_comes_in_and_older_usage_does_not(reporter: Reporter) -> None:
    edge = NOW - LATE_WINDOW
    moment = timedelta(microseconds=1)
    results = await reporter.report(reporter.event(at=edge), reporter.event(at=edge - moment))
    assert codes(results) == [None, "too_late"]


async def test_a_backfill_lets_in_what_was_used_in_its_time_until_it_closes_and_says_what_came(
    database: Database, seller: Seller, reporter: Reporter, clock: Clock
) -> None:
    within = [NOW - timedelta(days=100), NOW - timedelta(days=51)]
    outside = [NOW - timedelta(days=101), NOW - timedelta(days=50)]
    assert codes(await reporter.report(*(reporter.event(at=at) for at in within))) == ["too_late"] * 2
    opened = await open_backfill(seller, reporter)
    late = [reporter.event(at=at) for at in [*within, *outside]]
    results = await reporter.report(*late, reporter.event(at=NOW))
    assert codes(results) == [None, None, "too_late", "too_late", None]
    shown = await seller.get(f"/v1/backfills/{opened['id']}")
    assert shown["filled"] == [{"organization": reporter.customer.org, "events": 2, "tokens": 30}]
    assert (shown["requested_by"], shown["approved_by"]) == ("Ada", "Grace")
    clock.passes(days=7)
    before = await balances(database)
    results = await reporter.report(reporter.event(at=within[1]), *late[:2])
    assert codes(results)[0] == "too_late"
    # What came in by it is known for as long as ids are, and stays a duplicate.
    assert outcomes(results)[1:] == ["duplicate", "duplicate"]
    assert await balances(database) == before


async def test_a_backfill_is_for_one_meter(reporter: Reporter, seller: Seller) -> None:
    await open_backfill(seller, reporter)
    other = await seller.post("/v1/meters", {"name": "rack 2"})
    theirs = Reporter(reporter.http, other["id"], other["token"], reporter.customer)
    assert codes(await theirs.report(theirs.event(at=NOW - timedelta(days=60)))) == ["too_late"]


async def test_an_id_is_known_for_as_long_as_its_usage_could_come_in_and_then_refused(
    database: Database, reporter: Reporter, clock: Clock
) -> None:
    event = reporter.event(at=NOW)
    await reporter.report(event)
    before = await balances(database)
    clock.now = NOW + REMEMBERED
    assert outcomes(await reporter.report(event)) == ["duplicate"]
    clock.now += timedelta(microseconds=1)
    assert codes(await reporter.report(event)) == ["too_old"]
    assert await balances(database) == before


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"approved_by": "ADA"}, "backfill_needs_two"),
        ({"end": (NOW - timedelta(days=100)).isoformat()}, "backfill_invalid"),
        ({"start": (NOW - REMEMBERED - timedelta(seconds=1)).isoformat()}, "backfill_invalid"),
        ({"open_days": 15}, "invalid_request"),
        ({"meter": "mtr_nobody"}, "not_found"),
    ],
)
async def test_what_can_not_be_agreed_to_is_refused(
    reporter: Reporter, seller: Seller, fields: Document, code: str
) -> None:
    assert (await seller.refused("/v1/backfills", agreement(reporter, **fields)))[1] == code
    assert (await seller.get("/v1/backfills"))["items"] == []
