"""Plans as gateways hold to them: billing writes, a real gateway before a real Valkey admits, an engine answers."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from headrace_billing.accounts.jobs import load_if_cold
from headrace_billing.ingest.arrival import read
from headrace_billing.ingest.batch import ingest
from headrace_contracts.usage import Disposition, encode_event
from headrace_gateway.metering.settings import MeterSettings
from tests.billing.plans.subscriber import Subscriber
from tests.billing.seller import INGEST_TOKEN, PRICES, Customer
from tests.gateway.account import MODEL, Account
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS
from tests.gateway.http.stack import Stack, running_stack
from tests.gateway.waiting import eventually


def requests_a_week(count: int, *, shape: str = "fixed", **fields: Any) -> dict[str, Any]:
    window = {"seconds": 7 * 86400, "shape": shape, "unit": "requests"}
    return {"limits": [{"kind": "window", "ceiling": count, "window": window}], **fields}


@pytest.fixture
async def customer(subscriber: Subscriber) -> Customer:
    """Whose wallet is empty."""
    seller = subscriber.seller
    await seller.post(
        "/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES}, "confirm_large_changes": True}
    )
    subscriber.shop.customer = await seller.customer(credit=None)
    return subscriber.shop.customer


@pytest.fixture
async def stack(
    customer: Customer, valkey_url: str, tmp_path: Path, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    settings = MeterSettings(
        name="gateway",
        state_dir=tmp_path,
        valkey_url=valkey_url,
        billing_url="http://127.0.0.1:9",  # discard: events are taken from the stream
        ingest_token=INGEST_TOKEN,
        segment_bytes=512 * 1024,
        journal_bytes_max=4 * 512 * 1024,
        heartbeat_seconds=0.1,
        inflight_slots=64,
        valkey_timeout_seconds=VALKEY_TIMEOUT_SECONDS,
        settle_wait_seconds=VALKEY_TIMEOUT_SECONDS,
    )
    with redis.Redis.from_url(valkey_url) as client:
        account = Account(client, secret=customer.secret)
        account.warm()
        async with running_stack(account, settings, unused_port()) as running:
            yield running


async def asked(stack: Stack) -> tuple[int, str]:
    """Status and code of a request."""
    answer = await stack.post()
    return answer.status_code, "" if answer.is_success else str(answer.json()["error"]["code"])


async def test_a_window_is_enforced_from_the_start_raised_by_an_upgrade_and_gone_with_the_end(
    subscriber: Subscriber, stack: Stack
) -> None:
    await subscriber.publish("two", "5.00", entitlements=requests_a_week(2))
    await subscriber.publish("three", "6.00", entitlements=requests_a_week(3))
    assert await asked(stack) == (402, "insufficient_balance")
    two = await subscriber.subscribe("plan_two_1")
    assert [await asked(stack) for _ in range(3)] == [(200, ""), (200, ""), (429, "rate_limited")]
    three = await subscriber.ask(two, "change", {"plan": "plan_three_1"})
    # What was used of the week stays used.
    assert [await asked(stack) for _ in range(2)] == [(200, ""), (429, "rate_limited")]
    await subscriber.ask(three, "cancel", {"when": "now"})
    assert await asked(stack) == (402, "insufficient_balance")
    events = await stack.settled(3)
    assert {event.disposition for event in events} == {Disposition.PLAN_WINDOW}


async def test_what_a_plan_pays_for_is_in_the_books_at_list_price_and_charged_to_nobody(
    subscriber: Subscriber, stack: Stack
) -> None:
    await subscriber.publish("two", "5.00", entitlements=requests_a_week(2))
    await subscriber.subscribe("plan_two_1")
    await asked(stack)
    (event,) = await stack.settled(1)
    taken = await ingest(subscriber.shop.database, [read(encode_event(event))], source="journal")
    assert [verdict.outcome for verdict in taken.verdicts] == ["accepted"]
    # The gateway goes by the time of day.
    day = datetime.fromtimestamp(event.received_at_us // 1_000_000, UTC).replace(hour=0, minute=0, second=0)
    start, end = (f"{day + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (0, 1))
    usage = await subscriber.seller.get(
        f"/v1/costs?project={subscriber.shop.customer.project}&start={start}&end={end}"
    )
    (row,) = usage["items"]
    assert (row["requests"], row["amount"]) == (1, "0.00")
    assert await subscriber.charged() == [("plan.charge", 500)]


async def test_a_plan_s_models_are_the_only_ones_and_its_concurrency_bounds(
    subscriber: Subscriber, stack: Stack
) -> None:
    await subscriber.publish("other", "5.00", entitlements=requests_a_week(9, models=["glm-other"]))
    other = await subscriber.subscribe("plan_other_1")
    assert await asked(stack) == (403, "model_not_allowed")
    none = {"limits": [{"kind": "concurrency", "ceiling": 0}]}
    await subscriber.publish("none", "6.00", entitlements=none)
    await subscriber.seller.grant("1.00", wallet=subscriber.shop.customer.wallet)
    await subscriber.ask(other, "change", {"plan": "plan_none_1"})
    assert await asked(stack) == (429, "rate_limited")


async def test_budgets_count_no_request_that_a_plan_has_paid_for(
    subscriber: Subscriber, stack: Stack
) -> None:
    await subscriber.publish("two", "5.00", entitlements=requests_a_week(2))
    await subscriber.subscribe("plan_two_1")
    path = f"/v1/projects/{subscriber.shop.customer.project}"
    limits = {"limits": [{"kind": "spend_day", "ceiling": 0}]}
    assert (await subscriber.seller.ask("PATCH", path, limits, **{"if-match": "1"})).is_success
    assert await asked(stack) == (200, "")


async def test_what_was_used_of_a_plan_s_window_is_used_when_valkey_has_lost_everything(
    subscriber: Subscriber, stack: Stack
) -> None:
    """What was paid otherwise before the plan began is none of it."""
    await subscriber.publish("two", "5.00", entitlements=requests_a_week(2, shape="sliding"))
    await subscriber.seller.grant("5.00", wallet=subscriber.shop.customer.wallet)
    assert await asked(stack) == (200, "")
    await subscriber.subscribe("plan_two_1")
    assert await asked(stack) == (200, "")
    events = await stack.settled(2)
    await ingest(subscriber.shop.database, [read(encode_event(event)) for event in events], source="journal")
    await subscriber.valkey.flushall()
    assert await load_if_cold(subscriber.shop.database, subscriber.valkey, drain_wait_seconds=0)
    await eventually(lambda: stack.meter.not_ready is None)
    assert [await asked(stack) for _ in range(2)] == [(200, ""), (429, "rate_limited")]
