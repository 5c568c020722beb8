"""What is left of limits, as it is read: by the counters that a real gateway counts in."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from redis.asyncio import Redis

from headrace_billing.app import compose
from headrace_billing.parts import Parts
from headrace_billing.valkey import connect
from headrace_contracts import channels
from tests.billing.accounts.test_beginning import asked, path_of
from tests.billing.accounts.test_changes import change
from tests.billing.seller import Customer, Document, Seller
from tests.gateway.http.stack import Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

TOKENS = 12  # of one request to the engine of the tests


def window(shape: str, unit: str, seconds: int) -> Document:
    return {"kind": "window", "ceiling": 100, "window": {"seconds": seconds, "shape": shape, "unit": unit}}


# A rate gives nothing back for some seconds, in which what was used can be read.
LIMITS = [
    {"kind": "requests_per_minute", "ceiling": 3},
    {"kind": "tokens_per_minute", "ceiling": 60},
    {"kind": "concurrency", "ceiling": 3},
    window("fixed", "requests", 7 * 86400),
    window("sliding", "tokens", 3600),
    {"kind": "spend_day", "ceiling": 2_000_000},
    {"kind": "spend_total", "ceiling": 10},
]


async def left(seller: Seller, path: str) -> list[Document]:
    items: list[Document] = (await seller.get(f"{path}/limits"))["items"]
    return items


@pytest.mark.parametrize("scope", ["keys", "projects", "organizations"])
async def test_what_gateways_have_counted_is_read_of_every_kind_of_limit(
    seller: Seller, customer: Customer, stack: Stack, scope: str
) -> None:
    path = path_of(scope, customer)
    limits = [*LIMITS[:-1], {**LIMITS[-1], "ceiling": 10_000_000}]
    await change(seller, path, {"limits": limits}, 1)
    assert [(one["used"], one["remaining"]) for one in await left(seller, path)] == [
        (0, one["ceiling"]) for one in limits
    ]
    answer = await stack.post()
    (event,) = await stack.settled(1)
    spent = event.tokens.input_uncached * 30 + event.tokens.cache_read * 6 + event.tokens.output_visible * 90
    requests, tokens, running, week, sliding, day, total = await left(seller, path)
    assert str(requests["remaining"]) == answer.headers["x-ratelimit-remaining-requests"] == "2"
    assert (requests["used"], running["used"], week["used"]) == (1, 0, 1)
    assert 0 < tokens["used"] <= sliding["used"] == TOKENS
    assert [(one["used"], one["remaining"]) for one in (day, total)] == [
        (spent, 2_000_000 - spent),
        (spent, 10_000_000 - spent),
    ]
    assert [one.keys() - {"window"} for one in (requests, total)] == [
        {"kind", "ceiling", "subscription", "used", "remaining", "resets_at"}
    ] * 2


async def test_it_says_when_all_of_a_limit_is_back(
    seller: Seller, customer: Customer, stack: Stack, valkey: Redis
) -> None:
    path = path_of("keys", customer)
    await change(seller, path, {"limits": LIMITS[:-1]}, 1)
    assert await asked(stack) == (200, "")
    seconds, _ = await valkey.time()
    now = datetime.fromtimestamp(seconds, UTC)
    items = await left(seller, path)
    until = [one["resets_at"] and datetime.fromisoformat(one["resets_at"]) - now for one in items]
    requests, tokens, running, week, sliding, day = until
    assert timedelta(0) < requests <= timedelta(seconds=21)
    assert timedelta(0) < tokens <= timedelta(seconds=TOKENS + 1)
    assert running is None
    assert timedelta(0) < week <= timedelta(days=7)
    assert timedelta(minutes=58) < sliding <= timedelta(minutes=61)
    assert now + day == datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)


async def test_what_runs_is_in_it(seller: Seller, customer: Customer, stack: Stack) -> None:
    path = path_of("keys", customer)
    await change(seller, path, {"limits": [LIMITS[2], LIMITS[5]]}, 1)
    release = asyncio.Event()
    stack.engine.behave(Behaviour(begins=release))
    asking = asyncio.create_task(asked(stack))
    await eventually(lambda: stack.meter.running)
    running, day = await left(seller, path)
    assert (running["used"], running["remaining"]) == (1, 2)
    assert day["used"] > 0
    release.set()
    assert await asking == (200, "")


async def test_it_agrees_with_a_refusal(seller: Seller, customer: Customer, stack: Stack) -> None:
    path = path_of("keys", customer)
    await change(seller, path, {"limits": [{**LIMITS[-1], "ceiling": 5}]}, 1)
    refused = (await stack.post()).json()["error"]
    (total,) = await left(seller, path)
    assert (refused["code"], refused["used"], refused["ceiling"]) == ("budget_exhausted", 0, 5)
    assert (total["used"], total["ceiling"], total["resets_at"]) == (0, 5, None)


async def test_a_plan_s_windows_are_read_of_whoever_subscribed(
    seller: Seller, customer: Customer, stack: Stack
) -> None:
    plan = {
        "code": "team",
        "version": 1,
        "name": "Team",
        "currency": "USD",
        "interval": "month",
        "price": "0.00",
    }
    await seller.post(
        "/v1/plans", {**plan, "entitlements": {"limits": [window("fixed", "requests", 604_800)]}}
    )
    body = {"organization": customer.org, "project": customer.project, "plan": "plan_team_1"}
    subscription = await seller.post("/v1/subscriptions", body)
    await change(seller, path_of("projects", customer), {"limits": [LIMITS[3]]}, 1)
    assert await asked(stack) == (200, "")
    own, planned = await left(seller, path_of("projects", customer))
    assert (own["subscription"], own["used"]) == (None, 1)
    assert (planned["subscription"], planned["used"], planned["remaining"]) == (subscription["id"], 1, 99)
    assert planned["window"]["anchor"]
    assert await left(seller, path_of("organizations", customer)) == []


async def test_it_is_not_told_while_counters_are_loaded_or_can_t_be_reached(
    seller: Seller, parts: Parts, customer: Customer, valkey: Redis, unused_port: Callable[[], int]
) -> None:
    path = f"{path_of('keys', customer)}/limits"
    await valkey.delete(channels.EPOCH)
    assert await seller.refused(path, None, method="GET") == (503, "limits_rebuilding")
    nowhere = connect(f"redis://127.0.0.1:{unused_port()}")
    transport = httpx2.ASGITransport(app=compose(replace(parts, valkey=nowhere)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        assert await Seller(http).refused(path, None, method="GET") == (503, "limits_unavailable")
    await nowhere.aclose()
