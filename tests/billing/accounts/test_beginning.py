"""A limit that is set counts what was used before: billing writes, a real gateway before a real Valkey admits."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from headrace_billing.accounts import changing, outbox, store
from headrace_billing.accounts.jobs import RestartWatch, load_if_cold
from headrace_billing.database import Database
from headrace_contracts.access import KeyStatus, Limit, LimitKind
from headrace_contracts.usage import Disposition, TokenCounts, encode_event
from tests.billing.accounts.test_changes import change, key_record
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import Customer, Seller
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

MUCH = TokenCounts(input_uncached=100_000)
MUCH_MICROS = 3_000_000
AMPLE_MICROS = 1_000_000  # for any one request of the tests
KINDS = ("spend_day", "spend_month", "spend_total")


@pytest.fixture
async def used(seller: Seller, customer: Customer, database: Database) -> Callable[[], Any]:
    """Has the customer use much more than one request would, and posts it."""
    books = await seller.get("/v1/price-books")
    gateway = Gateway(customer, books["items"][0]["id"])

    async def use() -> None:
        await take(
            database,
            gateway.event(
                tokens=MUCH,
                received_at=datetime.now(UTC),
                disposition=Disposition.PAYG,
                model_requested=MODEL,
                model_served=MODEL,
            ),
        )

    return use


def path_of(kind: str, customer: Customer) -> str:
    subject = {"keys": customer.key, "projects": customer.project, "organizations": customer.org}[kind]
    return f"/v1/{kind}/{subject}"


def budget(kind: str = "spend_day", ceiling: int = AMPLE_MICROS) -> dict[str, Any]:
    return {"kind": kind, "ceiling": ceiling}


async def asked(stack: Stack) -> tuple[int, str]:
    """Status and code of a request."""
    answer = await stack.post()
    return answer.status_code, "" if answer.is_success else str(answer.json()["error"]["code"])


async def counters_in(valkey: Redis) -> dict[Any, Any]:
    found: Any = await valkey.keys("hr:limit:spend*")
    return {place: await valkey.get(place) for place in found}


@pytest.mark.parametrize("limit", [*itertools.product(("keys", "projects", "organizations"), KINDS)])
async def test_a_budget_that_is_set_counts_what_was_spent_before(
    seller: Seller, customer: Customer, stack: Stack, used: Callable[[], Any], limit: tuple[str, str]
) -> None:
    scope, kind = limit
    await used()
    assert await asked(stack) == (200, "")
    path = path_of(scope, customer)
    await change(seller, path, {"limits": [budget(kind)]}, 1)
    assert await asked(stack) == (402, "budget_exhausted")
    await change(seller, path, {"limits": [budget(kind, MUCH_MICROS + AMPLE_MICROS)]}, 2)
    assert await asked(stack) == (200, "")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_budget_that_is_set_again_counts_what_was_spent_without_it(
    seller: Seller, customer: Customer, stack: Stack, used: Callable[[], Any], kind: str
) -> None:
    path = path_of("keys", customer)
    await change(seller, path, {"limits": [budget(kind)]}, 1)
    assert await asked(stack) == (200, "")
    await change(seller, path, {"limits": []}, 2)
    await used()
    await change(seller, path, {"limits": [budget(kind)]}, 3)
    assert await asked(stack) == (402, "budget_exhausted")


async def test_a_budget_whose_ceiling_is_changed_counts_on(
    seller: Seller, customer: Customer, stack: Stack, valkey: Redis
) -> None:
    """Though billing has posted nothing of what it counts."""
    path = path_of("keys", customer)
    await change(seller, path, {"limits": [budget()]}, 1)
    assert await asked(stack) == (200, "")
    await stack.settled(1)
    [(place, counted)] = (await counters_in(valkey)).items()
    assert int(counted) > 0
    await change(seller, path, {"limits": [budget(ceiling=2 * AMPLE_MICROS), budget("spend_total")]}, 2)
    assert (await counters_in(valkey))[place] == counted


async def test_what_a_budget_counted_and_billing_has_posted_is_counted_once(
    seller: Seller, customer: Customer, stack: Stack, database: Database, valkey: Redis
) -> None:
    path = path_of("keys", customer)
    await change(seller, path, {"limits": [budget()]}, 1)
    assert await asked(stack) == (200, "")
    events = await stack.settled(1)
    counted = await counters_in(valkey)
    await take(database, *(encode_event(event) for event in events))
    # Whoever pushes it anew: a change that takes the limit away and back, or a Valkey that lost its last second.
    await change(seller, path, {"limits": []}, 2)
    await change(seller, path, {"limits": [budget()]}, 3)
    assert await counters_in(valkey) == counted
    await valkey.delete(stack.account.key_hash)
    assert await RestartWatch().repair(database, valkey)
    assert await counters_in(valkey) == counted


async def test_what_runs_while_a_budget_is_taken_away_and_set_again_is_counted_once(
    seller: Seller, customer: Customer, stack: Stack, used: Callable[[], Any], valkey: Redis
) -> None:
    path = path_of("keys", customer)
    await change(seller, path, {"limits": [budget()]}, 1)
    release = asyncio.Event()
    stack.engine.behave(Behaviour(begins=release))
    running = asyncio.create_task(asked(stack))
    await eventually(lambda: stack.meter.running)
    await change(seller, path, {"limits": []}, 2)
    await used()
    await change(seller, path, {"limits": [budget()]}, 3)
    release.set()
    assert await running == (200, "")
    await stack.settled(1)
    [counted] = (await counters_in(valkey)).values()
    # Less than the hold of what ran is all that it may miss.
    assert MUCH_MICROS - AMPLE_MICROS < int(counted) <= MUCH_MICROS + AMPLE_MICROS
    assert await asked(stack) == (402, "budget_exhausted")


@pytest.mark.parametrize("shape", ["fixed", "sliding"])
async def test_a_window_that_is_set_counts_what_was_used_before(
    seller: Seller, customer: Customer, stack: Stack, used: Callable[[], Any], shape: str
) -> None:
    await used()
    window = {"seconds": 31 * 86400, "shape": shape, "unit": "requests"}
    limits = {"limits": [{"kind": "window", "ceiling": 2, "window": window}]}
    await change(seller, path_of("projects", customer), limits, 1)
    assert [await asked(stack) for _ in range(2)] == [(200, ""), (429, "rate_limited")]


async def test_live_and_cold_a_budget_has_counted_the_same(
    seller: Seller,
    customer: Customer,
    used: Callable[[], Any],
    database: Database,
    valkey: Redis,
) -> None:
    await used()
    for scope in ("keys", "projects", "organizations"):
        await change(seller, path_of(scope, customer), {"limits": [budget(kind) for kind in KINDS]}, 1)
    live = await counters_in(valkey)
    assert len(live) == 9
    await valkey.flushall()
    assert await load_if_cold(database, valkey, drain_wait_seconds=0)
    assert await counters_in(valkey) == live


async def test_a_past_that_can_t_be_added_up_keeps_back_no_other_record(
    seller: Seller, customer: Customer, database: Database, valkey: Redis
) -> None:
    other = await seller.post("/v1/keys", {"project": customer.project, "name": "other"})
    async with database.begin() as session:
        key = await store.key(session, customer.key)
        limits = [Limit(kind=LimitKind.SPEND_DAY, ceiling=1)]
        await changing.change_key(session, replace(key, limits=limits))
        await store.revoke_key(session, other["id"], at=datetime.now(UTC))
        await session.execute(text("ALTER TABLE usage_rollups RENAME TO away"))
    with pytest.raises(ProgrammingError):
        await outbox.push_waiting(database, valkey)
    assert (await key_record(valkey, other["secret"])).status is KeyStatus.REVOKED
    assert (await key_record(valkey, customer.secret)).limits == []
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE away RENAME TO usage_rollups"))
    assert await outbox.push_waiting(database, valkey) == 1
    assert (await key_record(valkey, customer.secret)).limits == limits
