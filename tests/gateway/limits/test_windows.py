"""Budgets by calendar, plan windows and buckets by class: what counts where, and when it begins anew."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_contracts import channels, counters
from headrace_contracts.access import (
    CreditWeights,
    HourRate,
    KeyRecord,
    KeyStatus,
    Limit,
    LimitKind,
    ProjectRecord,
    Window,
    WindowShape,
    WindowUnit,
)
from headrace_contracts.usage import Disposition, TokenCounts
from headrace_gateway.errors import BudgetExhausted, LimitReached
from headrace_gateway.limits import plan
from headrace_gateway.limits.headers import duration, openai_headers
from headrace_gateway.limits.limiter import Limiter, Renewal, Short
from headrace_gateway.limits.state import CheckedLimit
from tests.gateway.limits.ground import FRAGMENT, admit, let_lapse, opened_limiter, settle, try_admit

COUNTS = b'"attempts":1,"tokens":{}'
FIVE_HOURS, WEEK = 5 * 3600, 7 * 86400

CODING_PLAN = Window(
    seconds=FIVE_HOURS,
    shape=WindowShape.SLIDING,
    unit=WindowUnit.CREDITS,
    weights={
        "glm-5.3": CreditWeights(input="690", cached="170", output="2400"),
        "*": CreditWeights(input="230", cached="56", output="800"),
    },
    rate="0.5",
    rates=[
        HourRate(
            weekdays=[0, 1, 2, 3, 4], begins_minute=840, ends_minute=1080, utc_offset_minutes=480, rate="1"
        )
    ],
)


@pytest.fixture
async def limiter(client: redis.Redis, valkey_url: str) -> AsyncIterator[Limiter]:
    client.set(channels.EPOCH, "e1")
    async with opened_limiter(valkey_url) as opened:
        yield opened


def checked(
    *limits: Limit, scope: str = "key", model: str = "m", prompt: int = 1, at: datetime | None = None
) -> list[CheckedLimit]:
    own: dict[str, list[Limit]] = {scope: list(limits)}
    project = ProjectRecord(
        id="p",
        org="o",
        wallet="w",
        currency="USD",
        disposition=Disposition.PAYG,
        limits=own.get("project", []),
        org_limits=own.get("org", []),
    )
    key = KeyRecord(id="k", project="p", status=KeyStatus.ACTIVE, limits=own.get("key", []))
    instant = at or datetime.now(UTC)
    return plan.planned(
        key,
        project,
        None,
        disposition=Disposition.PAYG,
        model=model,
    ).limits(prompt_tokens_max=prompt, at_us=int(instant.timestamp() * 1_000_000))


def window(
    ceiling: int,
    *,
    seconds: float,
    shape: WindowShape,
    unit: WindowUnit = WindowUnit.REQUESTS,
    anchor_us: int = 0,
) -> Any:
    [limit] = checked(
        Limit(
            kind=LimitKind.WINDOW,
            ceiling=ceiling,
            window=Window(seconds=max(1, int(seconds)), shape=shape, unit=unit, anchor_us=anchor_us),
        )
    )
    return limit


def valkey_now(client: redis.Redis) -> datetime:
    now: Any = client.time()
    return datetime.fromtimestamp(int(now[0]), UTC)


@pytest.mark.parametrize("scope", ["org", "project", "key"])
@pytest.mark.parametrize("kind", [LimitKind.SPEND_DAY, LimitKind.SPEND_MONTH, LimitKind.SPEND_TOTAL])
async def test_a_budget_of_any_scope_and_span_holds_and_says_when_it_begins_anew(
    client: redis.Redis, limiter: Limiter, scope: str, kind: LimitKind
) -> None:
    limits = checked(Limit(kind=kind, ceiling=100), scope=scope)
    await _not_at_a_day_s_end(client)
    lease = await admit(limiter, 60, limits)
    began = counters.budget_began(kind, valkey_now(client))
    suffix = "" if began is None else f":{int(began.timestamp())}"
    scope_id = {"org": "o", "project": "p", "key": "k"}[scope]
    counter = channels.counter(kind.value, scope, scope_id) + suffix
    assert client.get(counter) == b"60"
    short = await try_admit(limiter, 41, limits)
    assert isinstance(short, Short)
    assert (short.used, short.ceiling, short.room) == (60, 100, 40)
    if began is None:
        assert short.begins_anew_seconds is None
    else:
        later = began + timedelta(days=1 if kind is LimitKind.SPEND_DAY else 32)
        ends = counters.budget_began(kind, later)
        assert ends is not None
        left = (ends - valkey_now(client)).total_seconds()
        assert short.begins_anew_seconds == pytest.approx(left, abs=20)
    await settle(limiter, lease.id, cost=70)
    assert client.get(counter) == b"70"
    refused = plan.refusal(
        limits[0], used=70, ceiling=100, weight=41, retry_after_seconds=short.begins_anew_seconds
    )
    assert isinstance(refused, BudgetExhausted)
    assert (refused.limit, refused.scope) == (kind.value, f"{scope} {scope_id}")


async def test_an_extension_is_held_against_the_day_it_was_admitted_in(
    client: redis.Redis, limiter: Limiter
) -> None:
    limits = checked(Limit(kind=LimitKind.SPEND_DAY, ceiling=100))
    lease = await admit(limiter, 60, limits)
    assert await limiter.extend(lease.id, [], limits, hold=100) is True
    verdict = await limiter.extend(lease.id, [], limits, hold=101)
    assert isinstance(verdict, Short)
    assert verdict.room == 100
    assert verdict.begins_anew_seconds is not None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dates(min_value=datetime(2000, 1, 1).date(), max_value=datetime(2200, 1, 1).date()))  # noqa: DTZ001
def test_the_scripts_calendar_is_pythons(client: redis.Redis, day: Any) -> None:
    prelude = (files("headrace_gateway.limits") / "scripts" / "prelude.lua").read_text()
    number = (day - datetime(1970, 1, 1).date()).days  # noqa: DTZ001
    found = client.eval(prelude + "\nreturn month_began(tonumber(ARGV[1]))", 0, str(number))
    assert found == (day.replace(day=1) - datetime(1970, 1, 1).date()).days  # noqa: DTZ001


async def test_a_fixed_window_refuses_until_it_begins_anew(client: redis.Redis, limiter: Limiter) -> None:
    now: Any = client.time()
    seconds, micros = map(int, now)
    # It begins now, and is long enough for three requests.
    anchor_us = seconds * 1_000_000 + micros
    limit = window(2, seconds=5, shape=WindowShape.FIXED, anchor_us=anchor_us)
    first = await admit(limiter, 0, [limit])
    await admit(limiter, 0, [limit])
    with pytest.raises(LimitReached) as refused:
        await admit(limiter, 0, [limit])
    assert (refused.value.used, refused.value.ceiling, refused.value.weight) == (2, 2, 1)
    assert refused.value.limit.startswith("window-fixed-5-requests")
    assert refused.value.scope == "key k"
    wait = refused.value.retry_after_seconds
    assert wait is not None
    assert 0 < wait <= 5
    await asyncio.sleep(wait + 0.01)
    await admit(limiter, 0, [limit])
    before = client.keys("hr:limit:window*")
    await settle(limiter, first.id, cost=0)  # counts in the window it began in
    assert client.keys("hr:limit:window*") == before


async def test_a_sliding_window_gives_back_what_is_older_than_itself(
    client: redis.Redis, limiter: Limiter
) -> None:
    slice_seconds = 100
    limit = window(2, seconds=counters.SLIDING_SLICES * slice_seconds, shape=WindowShape.SLIDING)
    half = counters.SLIDING_SLICES // 2
    await admit(limiter, 0, [limit])
    _slices_pass(client, half)
    await admit(limiter, 0, [limit])
    with pytest.raises(LimitReached) as refused:
        await admit(limiter, 0, [limit])
    wait = refused.value.retry_after_seconds
    assert wait is not None
    assert (half - 1) * slice_seconds <= wait <= half * slice_seconds
    _slices_pass(client, half)
    await admit(limiter, 0, [limit])
    with pytest.raises(LimitReached):
        await admit(limiter, 0, [limit])


@pytest.mark.parametrize("shape", list(WindowShape))
async def test_a_window_of_credits_is_trued_up_by_what_each_class_weighs(
    client: redis.Redis, limiter: Limiter, shape: WindowShape
) -> None:
    plan_window = Window(
        seconds=FIVE_HOURS, shape=shape, unit=WindowUnit.CREDITS, weights=CODING_PLAN.weights
    )
    limit = Limit(kind=LimitKind.WINDOW, ceiling=2_000_000_000, window=plan_window)
    limits = checked(limit, model="glm-5.3", prompt=1000)
    lease = await admit(limiter, 0, limits)
    assert _used(client) == 690_000
    await settle(
        limiter,
        lease.id,
        cost=0,
        tokens=TokenCounts(input_uncached=10, cache_read=90, output_visible=20, reasoning=5),
    )
    assert _used(client) == 10 * 690 + 90 * 170 + 25 * 2400


async def test_a_reaped_request_counts_the_tokens_of_its_last_heartbeat_until_its_final_event(
    client: redis.Redis, limiter: Limiter
) -> None:
    limit = window(1000, seconds=FIVE_HOURS, shape=WindowShape.FIXED, unit=WindowUnit.TOKENS)
    lease = await admit(limiter, 0, [limit])
    tokens = TokenCounts(input_uncached=3, cache_read=4, output_visible=5)
    await limiter.heartbeat([Renewal(id=lease.id, counts=COUNTS, cost=0, tokens=tokens, hold=None)], [])
    let_lapse(client, lease.id)
    assert await limiter.reap() == [lease.id]
    assert _used(client) == 12
    for _ in range(2):
        await settle(limiter, lease.id, cost=0, tokens=TokenCounts(input_uncached=3, output_visible=20))
        assert _used(client) == 23


@pytest.mark.parametrize("shape", list(WindowShape))
async def test_a_window_that_stops_what_runs_counts_it_as_it_runs_and_tells_who_must_end(
    client: redis.Redis, limiter: Limiter, shape: WindowShape
) -> None:
    of_tokens = Window(seconds=FIVE_HOURS, shape=shape, unit=WindowUnit.TOKENS)
    limits = checked(Limit(kind=LimitKind.WINDOW, ceiling=100, window=of_tokens, stop=True), prompt=30)
    first, second = await admit(limiter, 0, limits), await admit(limiter, 0, limits)

    async def beat(*outputs: int) -> list[str]:
        renewals = [
            Renewal(
                id=lease.id,
                counts=COUNTS,
                cost=0,
                tokens=TokenCounts(input_uncached=10 * bool(output), output_visible=output),
                hold=None,
            )
            for lease, output in zip((first, second), outputs, strict=True)
        ]
        return (await limiter.heartbeat(renewals, [])).used_up

    assert await beat(0, 0) == []
    assert _used(client) == 60, "nothing counted yet: what they were admitted with"
    assert await beat(0, 30) == []
    assert _used(client) == 30 + 40
    assert await beat(30, 49) == []
    assert _used(client) == 40 + 59
    assert await beat(31, 49) == [first.id, second.id]
    await settle(limiter, first.id, cost=0, tokens=TokenCounts(input_uncached=10, output_visible=33))
    await settle(limiter, second.id, cost=0, tokens=TokenCounts(input_uncached=10, output_visible=50))
    assert _used(client) == 43 + 60
    with pytest.raises(LimitReached):
        await admit(limiter, 0, limits)


async def test_a_fixed_window_that_is_over_stops_nothing_any_more(
    client: redis.Redis, limiter: Limiter
) -> None:
    of_tokens = Window(seconds=3600, shape=WindowShape.FIXED, unit=WindowUnit.TOKENS)
    limits = checked(Limit(kind=LimitKind.WINDOW, ceiling=10, window=of_tokens, stop=True))
    earlier = valkey_now(client) - timedelta(hours=1)
    tokens = TokenCounts(input_uncached=1, output_visible=50)
    renewal = Renewal(id="r", counts=COUNTS, cost=0, tokens=tokens, hold=None)
    at_us = int(earlier.timestamp()) * 1_000_000
    assert await limiter.register(renewal, limits, hold=0, fragment=FRAGMENT, admitted_at_us=at_us)
    assert (await limiter.heartbeat([renewal], [])).used_up == []


async def test_a_window_that_does_not_say_so_stops_nothing(limiter: Limiter) -> None:
    limit = window(10, seconds=FIVE_HOURS, shape=WindowShape.FIXED, unit=WindowUnit.TOKENS)
    lease = await admit(limiter, 0, [limit])
    tokens = TokenCounts(input_uncached=3, output_visible=50)
    renewal = Renewal(id=lease.id, counts=COUNTS, cost=0, tokens=tokens, hold=None)
    assert (await limiter.heartbeat([renewal], [])).used_up == []


async def test_a_lease_put_back_counts_in_the_window_it_was_admitted_in(
    client: redis.Redis, limiter: Limiter
) -> None:
    [limit] = checked(
        Limit(
            kind=LimitKind.WINDOW,
            ceiling=5,
            window=Window(seconds=3600, shape=WindowShape.FIXED, unit=WindowUnit.REQUESTS),
        )
    )
    earlier = valkey_now(client) - timedelta(hours=1)
    renewal = Renewal(id="r", counts=COUNTS, cost=0, tokens=TokenCounts(), hold=None)
    at_us = int(earlier.timestamp()) * 1_000_000
    assert await limiter.register(renewal, [limit], hold=0, fragment=FRAGMENT, admitted_at_us=at_us)
    began = int(earlier.timestamp()) // 3600 * 3600 * 1000
    assert client.get(f"{limit[1]}:{began}") == b"1"
    await admit(limiter, 0, [limit])
    assert len(client.keys("hr:limit:window*")) == 2


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        (LimitKind.INPUT_TOKENS_PER_MINUTE, TokenCounts(input_uncached=200, cache_read=7, output_visible=7)),
        (LimitKind.CACHED_TOKENS_PER_MINUTE, TokenCounts(input_uncached=7, cache_read=200, output_visible=7)),
        (LimitKind.OUTPUT_TOKENS_PER_MINUTE, TokenCounts(input_uncached=7, cache_read=7, reasoning=200)),
    ],
)
async def test_each_class_of_tokens_has_its_own_bucket(
    limiter: Limiter, kind: LimitKind, tokens: TokenCounts
) -> None:
    limits = checked(*(Limit(kind=each, ceiling=100) for each in plan.CLASS_WEIGHTS))
    lease = await admit(limiter, 0, limits)
    await settle(limiter, lease.id, cost=0, tokens=tokens)
    with pytest.raises(LimitReached) as refused:
        await admit(limiter, 0, limits)
    assert refused.value.limit == kind.value
    assert refused.value.used >= 199


async def test_a_limit_of_one_model_leaves_the_others_alone(limiter: Limiter) -> None:
    limit = Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=1, model="glm/5:3")
    of_it, of_another = checked(limit, model="glm/5:3"), checked(limit, model="m")
    assert of_another == []
    await admit(limiter, 0, of_it)
    with pytest.raises(LimitReached) as refused:
        await admit(limiter, 0, of_it)
    assert (refused.value.limit, refused.value.scope) == ("requests_per_minute@glm%2F5%3A3", "key k")


@pytest.mark.parametrize(
    ("at", "weights"),
    [
        (datetime(2026, 11, 24, 6, 0, tzinfo=UTC), (690_000, 170_000, 2_400_000)),  # Tuesday 14:00 UTC+8
        (datetime(2026, 11, 24, 5, 59, tzinfo=UTC), (345_000, 85_000, 1_200_000)),
        (datetime(2026, 11, 24, 10, 0, tzinfo=UTC), (345_000, 85_000, 1_200_000)),
        (datetime(2026, 11, 28, 7, 0, tzinfo=UTC), (345_000, 85_000, 1_200_000)),  # Saturday
    ],
)
def test_credits_weigh_by_model_and_by_the_hour_of_the_plan(at: datetime, weights: Any) -> None:
    assert counters.token_weights(CODING_PLAN, model="glm-5.3", at=at) == weights
    assert counters.token_weights(CODING_PLAN, model="other", at=at)[2] == weights[2] // 3


async def test_answers_tell_the_tightest_limit_of_requests_and_of_tokens(limiter: Limiter) -> None:
    limits = checked(
        Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=60),
        Limit(kind=LimitKind.TOKENS_PER_MINUTE, ceiling=6000),
        Limit(kind=LimitKind.CONCURRENCY, ceiling=1),
        Limit(
            kind=LimitKind.WINDOW,
            ceiling=10,
            window=Window(seconds=FIVE_HOURS, shape=WindowShape.SLIDING, unit=WindowUnit.REQUESTS),
        ),
        prompt=100,
    )
    admitted = await admit(limiter, 0, limits)
    headers = dict(openai_headers(admitted.states))
    assert {name: value for name, value in headers.items() if "reset" not in name} == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5900",
    }
    assert headers["x-ratelimit-reset-tokens"] == "1s"
    assert re.fullmatch(r"4h5[5-9]m\d+s|5h0m0s", headers["x-ratelimit-reset-requests"])
    assert openai_headers(()) == []


@given(st.floats(0, 40 * 86400))
def test_a_duration_is_never_shorter_than_it_is_and_never_a_second_longer(seconds: float) -> None:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+)(ms|[hms])", duration(seconds))
    assert "".join(number + unit for number, unit in parts) == duration(seconds)
    told = sum(int(number) * units[unit] for number, unit in parts)
    assert seconds - 1e-6 <= told < seconds + (1.001 if seconds > 0.999 else 0.001 + 1e-9)


async def _not_at_a_day_s_end(client: redis.Redis) -> None:
    """Waits for the next day of Valkey's clock where a test may not fit into this one any more."""
    now: Any = client.time()
    left = 86400 - int(now[0]) % 86400
    if left < 20:
        await asyncio.sleep(left)


def _slices_pass(client: redis.Redis, count: int) -> None:
    """As if so much time of a sliding window had passed: what was counted is so much older."""
    [key] = client.keys("hr:limit:window*")
    counted: Any = client.hgetall(key)
    client.delete(key)
    client.hset(key, mapping={str(int(number) - count): amount for number, amount in counted.items()})


def _used(client: redis.Redis) -> int:
    [key] = client.keys("hr:limit:window*")
    if client.type(key) == b"hash":
        slices: Any = client.hvals(key)
        return sum(int(amount) for amount in slices)
    value: Any = client.get(key)
    return int(value)
