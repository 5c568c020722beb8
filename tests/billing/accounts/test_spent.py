"""What was spent stays spent when Valkey has lost everything."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from headrace_billing.accounts.jobs import load_if_cold
from headrace_billing.database import Database
from headrace_contracts import channels, counters
from headrace_contracts.access import Limit, LimitKind, Window, WindowShape, WindowUnit
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import Seller

SPENT_MICROS = 750  # of one event of the tests
BUDGETS = ("spend_day", "spend_month", "spend_total")


def window(shape: str, unit: str) -> dict[str, Any]:
    return {"kind": "window", "ceiling": 100, "window": {"seconds": 86_400, "shape": shape, "unit": unit}}


async def test_budgets_and_windows_of_every_scope_are_filled_before_admission_opens(
    seller: Seller, database: Database, valkey: Redis
) -> None:
    customer = await seller.customer()
    gateway = Gateway(customer, await seller.publish_prices())
    limits = [{"kind": kind, "ceiling": 1000} for kind in BUDGETS]
    limits += [window("fixed", "tokens"), window("sliding", "requests")]
    subjects = {"org": customer.org, "project": customer.project, "key": customer.key}
    for scope, kind in (("org", "organizations"), ("project", "projects"), ("key", "keys")):
        path = f"/v1/{kind}/{subjects[scope]}"
        answer = await seller.ask("PATCH", path, {"limits": limits}, **{"if-match": "1"})
        assert answer.is_success, answer.text
    seconds, _ = await valkey.time()
    if (left := 86_400 - seconds % 86_400) < 30:
        # What is filled is what counts on the day of the load.
        await asyncio.sleep(left)
        seconds += left
    now = datetime.fromtimestamp(seconds, UTC)
    for _ in range(2):
        await take(database, gateway.event(received_at=now))
    await take(database, gateway.event(received_at=datetime(2026, 1, 5, tzinfo=UTC), tokens=TokenCounts()))
    await valkey.flushall()
    assert await load_if_cold(database, valkey, drain_wait_seconds=0)
    for scope, subject in subjects.items():
        for name in BUDGETS:
            began = counters.budget_began(LimitKind(name), now)
            place = channels.counter(name, scope, subject)
            place += "" if began is None else f":{int(began.timestamp())}"
            assert await valkey.get(place) == str(2 * SPENT_MICROS).encode()
            assert (await valkey.pttl(place) > 0) == (began is not None)
        fixed = Window(seconds=86_400, shape=WindowShape.FIXED, unit=WindowUnit.TOKENS)
        name = counters.name_of(Limit(kind=LimitKind.WINDOW, ceiling=100, window=fixed))
        began_ms = counters.window_began_ms(fixed, seconds * 1000)
        assert await valkey.get(f"{channels.counter(name, scope, subject)}:{began_ms}") == b"30"
        sliding = Window(seconds=86_400, shape=WindowShape.SLIDING, unit=WindowUnit.REQUESTS)
        name = counters.name_of(Limit(kind=LimitKind.WINDOW, ceiling=100, window=sliding))
        slices = await valkey.hgetall(channels.counter(name, scope, subject))
        assert slices == {str(seconds * 1000 // counters.slice_ms(sliding)).encode(): b"2"}
