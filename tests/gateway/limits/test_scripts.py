"""The scripts one by one: what survives a gateway's silence, a repeated call, an emptied Valkey."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headrace_contracts import channels
from headrace_contracts.usage import Ending, Grade, TokenCounts, decode_event
from headrace_gateway.errors import LimitReached, LimitsRebuilding
from headrace_gateway.limits.limiter import Limiter, Renewal, Short
from headrace_gateway.limits.pricing import MICROS_MAX
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.limits.verdicts import Reaped
from tests.gateway.account import everything
from tests.gateway.limits.ground import (
    BUDGET,
    FRAGMENT,
    GAUGE,
    WALLET,
    admit,
    amounts,
    let_lapse,
    let_return_lapse,
    opened_limiter,
    settle,
    try_admit,
)
from tests.gateway.waiting import eventually

COUNTS = (
    b'"attempts":2,"first_token_at_us":7,"tokens":{"input_uncached":3,"output_visible":4},"engine_usage":{}'
)


FORGOTTEN = -2
"""What Valkey says of the time to live of a key that is not there; -1 of one that stays."""


@pytest.fixture
async def limiter(client: redis.Redis, valkey_url: str) -> AsyncIterator[Limiter]:
    client.set(channels.EPOCH, "e1")
    client.hset(WALLET[1], mapping={"bal": 1000, "ver": 1})
    async with opened_limiter(valkey_url) as opened:
        yield opened


def renewal(request_id: str, *, hold: int | None = None, cost: int = 7) -> Renewal:
    return Renewal(id=request_id, counts=COUNTS, cost=cost, tokens=TokenCounts(output_visible=7), hold=hold)


def events(client: redis.Redis) -> list[Any]:
    entries: Any = client.xrange(channels.USAGE)
    return [decode_event(fields[b"e"]) for _, fields in entries]


async def test_an_id_is_a_uuid_of_valkeys_own_time(client: redis.Redis, limiter: Limiter) -> None:
    admitted = await admit(limiter, 1)
    parsed = uuid.UUID(admitted.id)
    assert (str(parsed), parsed.version, parsed.variant) == (admitted.id, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == admitted.time_us // 1000
    now: Any = client.time()
    assert 0 <= int(now[0]) * 1_000_000 + int(now[1]) - admitted.time_us < 60_000_000
    assert len({(await admit(limiter, 1)).id for _ in range(50)}) == 50


async def test_amounts_stay_exact_up_to_the_greatest(client: redis.Redis, limiter: Limiter) -> None:
    client.hset(WALLET[1], "bal", MICROS_MAX)
    first = await admit(limiter, MICROS_MAX - 1)
    verdict = await try_admit(limiter, 2)
    assert isinstance(verdict, Short)
    assert (verdict.room, verdict.used, verdict.ceiling) == (1, MICROS_MAX - 1, MICROS_MAX)
    await admit(limiter, 1)
    await settle(limiter, first.id, cost=MICROS_MAX - 2, event=b"{}")
    assert client.hmget(WALLET[1], "held", "pend") == [b"1", str(MICROS_MAX - 2).encode()]


async def test_a_second_settlement_moves_nothing(client: redis.Redis, limiter: Limiter) -> None:
    lease = await admit(limiter, 100, [GAUGE, BUDGET, WALLET])
    assert await settle(limiter, lease.id, cost=40, event=b"first")
    before = everything(client)
    assert not await settle(limiter, lease.id, cost=99, event=b"second")
    after = everything(client)
    assert {k: v for k, v in before.items() if k != channels.USAGE} == {
        k: v for k, v in after.items() if k != channels.USAGE
    }
    assert amounts(client) == (1000, 0, 40)
    assert client.exists(GAUGE[1]) == 0
    assert client.get(BUDGET[1]) == b"40"


async def test_a_settlement_of_nothing_leaves_no_pending_entry(client: redis.Redis, limiter: Limiter) -> None:
    lease = await admit(limiter, 100)
    await settle(limiter, lease.id, cost=0)
    assert amounts(client) == (1000, 0, 0)
    assert client.exists(channels.pending("w")) == 0


async def test_a_silent_gateways_lease_is_reaped_at_its_last_counts_and_made_final_once(
    client: redis.Redis, limiter: Limiter
) -> None:
    lease = await admit(limiter, 100, [GAUGE, BUDGET, WALLET])
    pulse = await limiter.heartbeat([renewal(lease.id, cost=60)], [])
    assert (pulse.reaped, pulse.lost) == ([], [])
    let_lapse(client, lease.id)
    assert await limiter.reap() == [lease.id]

    # What its final event may add stays held.
    assert amounts(client) == (1000, 40, 60)
    assert client.hgetall(channels.pending("w")) == {lease.id.encode(): b"60"}
    assert client.get(BUDGET[1]) == b"100"
    assert client.exists(GAUGE[1], "hr:leases", f"hr:lease:{lease.id}") == 0
    [event] = events(client)
    assert (event.id, event.grade, event.ending, event.producer, event.sequence) == (
        lease.id,
        Grade.ESTIMATED,
        Ending.GATEWAY_LOST,
        "reaper",
        0,
    )
    assert event.tokens == TokenCounts(input_uncached=3, output_visible=4)
    assert (event.attempts, event.first_token_at_us, event.received_at_us) == (2, 7, lease.time_us)

    assert (await limiter.heartbeat([renewal(lease.id)], [])).reaped == [lease.id]
    for _ in range(2):
        assert not await settle(limiter, lease.id, cost=80, event=FINAL)
        assert amounts(client) == (1000, 0, 80)
        assert client.hgetall(channels.pending("w")) == {lease.id.encode(): b"80"}
        assert client.get(BUDGET[1]) == b"80"
    assert len(events(client)) == 3
    assert await limiter.reap() == []
    assert await limiter.extend(lease.id, [], [WALLET], hold=200) == Reaped()
    await limiter.register(renewal(lease.id), [WALLET], hold=100, fragment=FRAGMENT, admitted_at_us=0)
    assert amounts(client) == (1000, 0, 80)


async def test_what_stays_held_for_a_reaped_request_is_let_go_when_its_gateway_does_not_return(
    client: redis.Redis, limiter: Limiter
) -> None:
    lease = await admit(limiter, 100, [BUDGET, WALLET])
    let_lapse(client, lease.id)
    await limiter.reap()
    assert amounts(client) == (1000, 100, 0)
    let_return_lapse(client, lease.id)
    await limiter.reap()
    assert amounts(client) == (1000, 0, 0)
    assert client.get(BUDGET[1]) == b"0"
    # It is known as reaped for longer than that, but not for ever.
    assert (await limiter.heartbeat([renewal(lease.id)], [])).reaped == [lease.id]
    assert client.ttl(f"hr:reaped:{lease.id}") > 0
    assert client.zcard("hr:reaped") == 0


async def test_a_final_event_after_the_estimate_was_posted_holds_its_difference(
    client: redis.Redis, limiter: Limiter
) -> None:
    lease = await admit(limiter, 100)
    await limiter.heartbeat([renewal(lease.id, cost=60)], [])
    let_lapse(client, lease.id)
    await limiter.reap()
    client.hset(WALLET[1], mapping={"bal": 940, "pend": 0})
    client.delete(channels.pending("w"))
    await settle(limiter, lease.id, cost=80, event=FINAL)
    assert amounts(client) == (940, 0, 20)
    assert client.hgetall(channels.pending("w")) == {lease.id.encode(): b"20"}


FINAL = (
    b'{"id":"x","grade":1,"producer":"p","boot":"b","sequence":1,"received_at_us":1,"finished_at_us":2,'
    b'"ending":"completed","tokens":{},' + FRAGMENT + b"}"
)


async def test_a_lease_that_never_beat_is_reaped_at_nothing(client: redis.Redis, limiter: Limiter) -> None:
    lease = await admit(limiter, 100)
    let_lapse(client, lease.id)
    assert await limiter.reap() == [lease.id]
    assert amounts(client) == (1000, 100, 0)
    [event] = events(client)
    assert (event.tokens.total, event.attempts) == (0, 0)


async def test_after_a_silence_of_all_gateways_get_time_to_renew_first(
    client: redis.Redis, valkey_url: str
) -> None:
    client.set(channels.EPOCH, "e1")
    client.hset(WALLET[1], mapping={"bal": 1000, "ver": 1})
    async with opened_limiter(valkey_url, lease_ttl_seconds=0.3) as limiter:
        renewing, silent = await admit(limiter, 1), await admit(limiter, 1)
        await asyncio.sleep(0.35)  # nobody could renew, and nobody reaped
        assert await limiter.reap() == []
        await limiter.heartbeat([renewal(renewing.id)], [])
        async with asyncio.timeout(30):
            while not (taken := await limiter.reap()):
                await asyncio.sleep(0.02)
                await limiter.heartbeat([renewal(renewing.id)], [])
        assert taken == [silent.id]


async def test_reaping_takes_a_bounded_batch_at_a_time(client: redis.Redis, limiter: Limiter) -> None:
    for _ in range(130):
        let_lapse(client, (await admit(limiter, 1)).id)
    assert [len(await limiter.reap()) for _ in range(3)] == [100, 30, 0]
    assert amounts(client) == (1000, 130, 0)


async def test_a_heartbeat_shrinks_holds_and_never_raises_them(client: redis.Redis, limiter: Limiter) -> None:
    lease = await admit(limiter, 100, [BUDGET, WALLET])
    await limiter.heartbeat([renewal(lease.id, hold=500)], [])
    assert amounts(client)[1] == 100
    await limiter.heartbeat([renewal(lease.id, hold=30)], [])
    assert amounts(client)[1] == 30
    assert client.get(BUDGET[1]) == b"30"
    await limiter.heartbeat([renewal(lease.id, hold=None)], [])
    assert amounts(client)[1] == 30


async def test_a_call_that_arrives_after_those_that_followed_it_sets_nothing_back(
    client: redis.Redis, limiter: Limiter, valkey_url: str
) -> None:
    lease = await admit(limiter, 100)
    await limiter.heartbeat([renewal(lease.id, cost=7)], [])
    assert await limiter.extend(lease.id, [], [WALLET], hold=300)
    # As far as it has counted, this one is at the first call.
    async with opened_limiter(valkey_url) as late:
        pulse = await late.heartbeat([renewal(lease.id, cost=3, hold=50)], [])
        assert (pulse.lost, pulse.reaped) == ([], [])
        assert await late.extend(lease.id, [], [WALLET], hold=200) is False
    assert amounts(client) == (1000, 300, 0)
    stored: Any = client.get(f"hr:lease:{lease.id}")
    _limits, _hold, cost, *_ = msgspec.msgpack.decode(stored)
    assert cost == 7


async def test_a_heartbeat_tells_what_billing_has(client: redis.Redis, limiter: Limiter) -> None:
    client.hset(channels.ACKNOWLEDGED, "p:b1", 17)
    pulse = await limiter.heartbeat([], ["p:b1", "p:b2"])
    assert (pulse.warm, pulse.acknowledged) == (True, [17, 0])
    assert client.zrange(channels.GATEWAYS, 0, -1) == [b"gateway-0"]
    client.delete(channels.EPOCH)
    assert not (await limiter.heartbeat([], [])).warm


async def test_cold_stops_admission_extension_reaping_and_registering_but_no_settlement(
    client: redis.Redis, limiter: Limiter
) -> None:
    lease = await admit(limiter, 100)
    client.delete(channels.EPOCH)
    with pytest.raises(LimitsRebuilding):
        await admit(limiter, 1)
    with pytest.raises(LimitsRebuilding):
        await limiter.extend(lease.id, [], [WALLET], hold=200)
    assert not await limiter.register(renewal("other"), [WALLET], hold=5, fragment=b"", admitted_at_us=0)
    let_lapse(client, lease.id)
    assert await limiter.reap() == []
    assert await settle(limiter, lease.id, cost=10)
    assert amounts(client) == (1000, 0, 10)
    assert not await settle(limiter, "unknown", cost=10)
    assert client.xlen(channels.USAGE) == 2


async def test_what_runs_has_its_hold_back_before_anybody_else_is_admitted(
    client: redis.Redis, limiter: Limiter
) -> None:
    client.delete(channels.EPOCH)
    client.set(channels.OPENING, "1")
    pulse = await limiter.heartbeat([renewal("r")], [])
    assert (pulse.warm, pulse.loaded, pulse.lost) == (False, True, ["r"])
    assert await limiter.register(renewal("r"), [WALLET], hold=5, fragment=FRAGMENT, admitted_at_us=0)
    assert await limiter.extend("r", [], [WALLET], hold=9)
    assert amounts(client) == (1000, 9, 0)
    with pytest.raises(LimitsRebuilding):
        await admit(limiter, 1)


async def test_registering_again_takes_nothing_twice(client: redis.Redis, limiter: Limiter) -> None:
    lease = await admit(limiter, 100, [GAUGE, WALLET])
    client.flushall()
    client.set(channels.EPOCH, "e2")
    pulse = await limiter.heartbeat([renewal(lease.id)], [])
    assert (pulse.reaped, pulse.lost) == ([], [lease.id])
    client.hset(WALLET[1], mapping={"bal": 50, "ver": 9})
    for _ in range(2):
        assert await limiter.register(
            renewal(lease.id), [GAUGE, WALLET], hold=80, fragment=FRAGMENT, admitted_at_us=0
        )
    assert amounts(client) == (50, 80, 0)  # held although the money is short: its tokens flow already
    assert client.get(GAUGE[1]) == b"1"
    await settle(limiter, lease.id, cost=70)
    assert amounts(client) == (50, 0, 70)


async def test_an_extension_moves_the_hold_both_ways_and_says_how_far_it_can(
    client: redis.Redis, limiter: Limiter
) -> None:
    client.hset(WALLET[1], "bal", 200)
    lease = await admit(limiter, 100)
    assert await limiter.extend(lease.id, [], [WALLET], hold=150) is True
    verdict = await limiter.extend(lease.id, [], [WALLET], hold=201)
    assert isinstance(verdict, Short)
    assert verdict.room == 200
    assert await limiter.extend(lease.id, [], [WALLET], hold=20) is True
    assert amounts(client) == (200, 20, 0)
    client.hset(WALLET[1], "bal", -500)  # a chargeback
    verdict = await limiter.extend(lease.id, [], [WALLET], hold=21)
    assert isinstance(verdict, Short)
    assert verdict.room == 20
    assert await limiter.extend("unknown", [], [WALLET], hold=1) is False


async def test_the_budget_with_the_least_room_is_the_one_that_refuses(
    client: redis.Redis, limiter: Limiter
) -> None:
    small: CheckedLimit = ("spend_total", "hr:limit:spend_total:project:p", 30, 0)
    verdict = await try_admit(limiter, 31, [BUDGET, small, WALLET])
    assert isinstance(verdict, Short)
    assert (verdict.limit, verdict.room) == (small, 30)
    assert client.keys("hr:limit:*") == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ceiling=st.integers(1, 10**11),
    fill=st.floats(-5, 1),
    passed_ms=st.integers(0, 10**7),
)
def test_a_bucket_refills_by_exactly_its_ceiling_a_minute(
    client: redis.Redis, valkey_url: str, ceiling: int, fill: float, passed_ms: int
) -> None:
    """Against exact integers, where a Lua number is a double."""
    key = "hr:limit:tokens_per_minute:key:exact"
    level = int(fill * ceiling) * 60_000

    async def level_after() -> tuple[int, int]:
        async with opened_limiter(valkey_url) as limiter:
            now: Any = client.time()
            seconds, micros = now
            at = (int(seconds) * 1_000_000 + int(micros)) // 1000 - passed_ms
            client.set(key, f"{level} {at}")
            limit: CheckedLimit = ("tokens_per_minute", key, ceiling, 1)
            try:
                await admit(limiter, 0, [limit])
            except LimitReached:
                return -1, at
            stored: Any = client.get(key)
            assume(stored is not None)  # a second after it is full again it is forgotten
            now_level, now_at = map(int, stored.split())
            return now_level, now_at - at

    client.set(channels.EPOCH, "e1")
    client.delete(key)
    found, elapsed = asyncio.run(level_after())
    full = ceiling * 60_000
    if found == -1:
        assert level + passed_ms * ceiling < 60_000 + 1000 * ceiling
    else:
        assert found == min(full, level + elapsed * ceiling) - 60_000


async def test_a_ceiling_of_zero_lets_nothing_pass(client: redis.Redis, limiter: Limiter) -> None:
    for kind in ("requests_per_minute", "tokens_per_minute", "concurrency"):
        limit: CheckedLimit = (kind, f"hr:limit:{kind}:key:none", 0, 1)
        with pytest.raises(LimitReached):
            await admit(limiter, 0, [limit])
    assert client.keys("hr:limit:*") == []


async def test_a_full_bucket_is_forgotten(client: redis.Redis, limiter: Limiter) -> None:
    limit: CheckedLimit = ("requests_per_minute", "hr:limit:requests_per_minute:key:k", 6000, 1)
    for _ in range(3):
        await admit(limiter, 0, [limit])
    forgotten_in_ms: Any = client.pttl(limit[1])
    assert 0 < forgotten_in_ms <= 1030 or forgotten_in_ms == FORGOTTEN
    await eventually(lambda: client.exists(limit[1]) == 0)


async def test_the_key_names_that_scripts_spell_are_the_contracts(
    client: redis.Redis, limiter: Limiter
) -> None:
    lease = await admit(limiter, 10)
    await settle(limiter, lease.id, cost=5, event=json.dumps({"a": 1}).encode())
    assert client.hexists(channels.pending("w"), lease.id)
    entries: Any = client.xrange(channels.USAGE)
    [(_, fields)] = entries
    assert list(fields) == [channels.USAGE_FIELD.encode()]
