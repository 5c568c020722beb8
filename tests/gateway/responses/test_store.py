"""Kept responses: found by their own project, and never more of them than fit."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest
import redis

from headrace_gateway.responses.store import (
    DOCUMENT_BYTES_MAX,
    ITEMS_MAX,
    LIFE_SECONDS,
    WAIT_SECONDS,
    Owner,
    ResponseStore,
    StoreBounds,
    Stored,
)
from headrace_gateway.valkey.connection import Valkey
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS
from tests.gateway.waiting import eventually
from tests.support.valkey import running_valkey_process

A_KIB = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * 1000)), items=[])
"""Counts as some 1,730 bytes, with what Valkey needs besides."""
EMPTY = Stored(response=msgspec.Raw(b"{}"), items=[])
P, Q = Owner("org_a", "p"), Owner("org_b", "q")


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    opened = Valkey(valkey_url, timeout_seconds=VALKEY_TIMEOUT_SECONDS)
    await opened.start()
    yield opened
    await opened.close()


def opened(
    valkey: Valkey,
    *,
    org: int = 2**20,
    everybody: int = 2**22,
    life_seconds: float = LIFE_SECONDS,
    wait_seconds: float = VALKEY_TIMEOUT_SECONDS,
) -> ResponseStore:
    bounds = StoreBounds(org_bytes_max=org, all_bytes_max=everybody)
    return ResponseStore(valkey, bounds=bounds, life_seconds=life_seconds, wait_seconds=wait_seconds)


def counted(client: redis.Redis) -> dict[str, int]:
    """What organisations are said to keep."""
    kept: Any = client.zrange("hr:responses:bytes", 0, -1, withscores=True)
    return {name.decode(): int(size) for name, size in kept}


def left_of(client: redis.Redis) -> set[str]:
    return {key.decode() for key in client.keys("hr:response*")}  # type: ignore[union-attr]


async def kept(store: ResponseStore, project: str, *names: str) -> list[str]:
    return [name for name in names if await store.find(project, name) is not None]


def named(*names: str) -> list[msgspec.Raw]:
    return [msgspec.Raw(b'{"id":"%b"}' % name.encode()) for name in names]


async def test_a_response_is_found_by_its_own_project_until_it_is_forgotten(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = opened(valkey)
    stored = Stored(response=msgspec.Raw(b'{"id":"r"}'), items=[msgspec.Raw(b"{}")])
    await store.keep(P, "r", stored)

    assert await store.find("p", "r") == stored
    assert await store.find("q", "r") is None
    assert not await store.forget(Q, "r")
    assert await store.forget(P, "r")
    assert await store.find("p", "r") is None
    assert left_of(client) == {"hr:responses:bytes:all"}
    assert client.get("hr:responses:bytes:all") == b"0"


async def test_an_item_is_found_by_its_own_project_until_its_response_is_forgotten(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = opened(valkey)
    a, b, c = named("a", "b", "c")
    await store.keep(P, "r", Stored(response=msgspec.Raw(b"{}"), items=[a, b]), output=[a, b])
    await store.keep(P, "later", Stored(response=msgspec.Raw(b"{}"), items=[a, b, c]), output=[c])

    assert await store.items("p", ["a", "c", "none", "no such id", "x" * 129]) == {"a": a, "c": c}
    assert await store.items("q", ["a", "c"]) == {}
    assert client.pttl("hr:responses:item:p:a") > 0

    assert await store.forget(P, "r")
    assert await store.items("p", ["a", "c"]) == {"c": c}
    assert await store.forget(P, "later")
    assert left_of(client) == {"hr:responses:bytes:all"}


async def test_an_item_of_two_responses_is_found_by_the_later_one(valkey: Valkey) -> None:
    store = opened(valkey)
    (a,) = named("a")
    for response in ("first", "second"):
        await store.keep(P, response, Stored(response=msgspec.Raw(b"{}"), items=[a]), output=[a])
    await store.forget(P, "first")
    assert await store.items("p", ["a"]) == {"a": a}


async def test_items_that_are_found_take_room_too(valkey: Valkey) -> None:
    store = opened(valkey, org=4000)
    for name in ("a", "b"):
        output = named(*[f"{name}{number}" for number in range(4)])
        await store.keep(P, name, A_KIB, output=output)
    assert await kept(store, "p", "a", "b") == ["b"]
    assert await store.items("p", ["a1"]) == {}


async def test_the_oldest_of_an_organisation_make_room_and_no_one_else_s(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = opened(valkey, org=5500)
    await store.keep(Q, "other", A_KIB)
    sibling = Owner(P.org, "sibling")
    await store.keep(sibling, "a", A_KIB)
    for name in ("b", "c", "d"):
        await store.keep(P, name, A_KIB)

    assert await kept(store, "sibling", "a") == []
    assert await kept(store, "p", "b", "c", "d") == ["b", "c", "d"]
    assert await kept(store, "q", "other") == ["other"]
    assert store.lost == 1
    assert counted(client)[P.org] <= 5500


async def test_a_conversation_s_turns_make_room_before_anything_that_is_not_gone_on_from(
    valkey: Valkey,
) -> None:
    store = opened(valkey, org=5500)
    await store.keep(P, "alone", A_KIB)
    await store.keep(P, "turn-0", A_KIB)
    for turn in range(1, 10):
        await store.keep(P, f"turn-{turn}", A_KIB, previous=f"turn-{turn - 1}")

    assert await kept(store, "p", "alone", "turn-7", "turn-8", "turn-9") == ["alone", "turn-8", "turn-9"]
    assert store.lost == 0


async def test_items_of_a_turn_that_made_room_are_found_by_the_turn_that_went_on_from_it(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = opened(valkey, org=4000)
    items = named(*[f"item-{turn}" for turn in range(4)])
    for turn in range(4):
        stored = Stored(response=A_KIB.response, items=items[: turn + 1])
        previous = f"turn-{turn - 1}" if turn else None
        await store.keep(P, f"turn-{turn}", stored, previous=previous, output=[items[turn]])

    assert await kept(store, "p", "turn-0", "turn-1", "turn-2", "turn-3") == ["turn-3"]
    names = [f"item-{turn}" for turn in range(4)]
    assert await store.items("p", names) == dict(zip(names, items, strict=True))
    assert client.pttl("hr:responses:item:p:item-0") > 0
    await store.forget(P, "turn-3")
    assert left_of(client) == {"hr:responses:bytes:all"}
    assert client.get("hr:responses:bytes:all") == b"0"


async def test_no_one_s_response_is_gone_on_from_by_another_project_s(valkey: Valkey) -> None:
    store = opened(valkey, org=5000)
    await store.keep(P, "a", A_KIB)
    await store.keep(P, "b", A_KIB)
    await store.keep(Owner(P.org, "sibling"), "c", EMPTY, previous="b")
    await store.keep(P, "d", A_KIB)
    assert await kept(store, "p", "a", "b", "d") == ["b", "d"]


async def test_who_keeps_most_makes_room_where_all_keep_too_much(valkey: Valkey, client: redis.Redis) -> None:
    store = opened(valkey, everybody=7500)
    await store.keep(Q, "first", A_KIB)
    for name in ("a", "b", "c", "d"):
        await store.keep(P, name, A_KIB)
    await store.keep(Owner("org_c", "s"), "last", A_KIB)

    assert await kept(store, "q", "first") == ["first"]
    assert await kept(store, "s", "last") == ["last"]
    assert await kept(store, "p", "a", "b", "c", "d") == ["c", "d"]
    assert store.lost == 2
    assert sum(counted(client).values()) == int(client.get("hr:responses:bytes:all") or 0) <= 7500


async def test_who_keeps_most_by_one_response_alone_keeps_that_one(valkey: Valkey) -> None:
    store = opened(valkey, everybody=4000)
    await store.keep(Q, "small", EMPTY)
    large = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * 3000)), items=[])
    await store.keep(P, "large", large)
    assert (await kept(store, "p", "large"), await kept(store, "q", "small")) == (["large"], [])


async def test_the_newest_stays_although_the_clock_went_back(valkey: Valkey, client: redis.Redis) -> None:
    store = opened(valkey, org=3000)
    await store.keep(P, "a", A_KIB)
    client.zadd(f"hr:responses:last:{P.org}", {"hr:response:p:a": 2**52})
    await store.keep(P, "b", A_KIB)
    assert await kept(store, "p", "a", "b") == ["b"]


async def test_of_a_long_conversation_that_made_room_so_many_items_are_found(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = opened(valkey, org=150_000)
    large = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * 70_000)), items=[])
    for turn in range(ITEMS_MAX + 4):
        previous = f"turn-{turn - 1}" if turn else None
        await store.keep(P, f"turn-{turn}", large, previous=previous, output=named(f"item-{turn}"))
    assert len(list(client.scan_iter("hr:responses:item:p:*", count=1000))) == ITEMS_MAX
    assert counted(client)[P.org] <= 150_000


async def test_a_response_does_not_go_on_from_itself(valkey: Valkey, client: redis.Redis) -> None:
    await opened(valkey).keep(P, "r", A_KIB, previous="r")
    assert client.zcard(f"hr:responses:last:{P.org}") == 1


async def test_a_stalled_valkey_keeps_an_answer_waiting_for_a_moment_at_most() -> None:
    with running_valkey_process() as (server, pid):
        valkey = Valkey(server.url, timeout_seconds=VALKEY_TIMEOUT_SECONDS)
        await valkey.start()
        await opened(valkey).keep(P, "before", A_KIB)
        store = opened(valkey, wait_seconds=WAIT_SECONDS)
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(VALKEY_TIMEOUT_SECONDS / 2):
                await store.keep(P, "meanwhile", A_KIB)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await kept(store, "p", "before", "meanwhile") == ["before", "meanwhile"]
        await valkey.close()


async def test_one_kept_twice_counts_once(valkey: Valkey, client: redis.Redis) -> None:
    store = opened(valkey)
    await store.keep(P, "r", A_KIB)
    once = counted(client)
    await store.keep(P, "r", A_KIB)

    assert counted(client) == once


async def test_what_has_lapsed_makes_room(valkey: Valkey, client: redis.Redis) -> None:
    brief = opened(valkey, life_seconds=0.01)
    await brief.keep(P, "r", A_KIB)
    await brief.keep(P, "s", A_KIB, previous="r")
    await eventually(lambda: not client.keys("hr:response:p:*"))
    await opened(valkey).keep(Q, "r", A_KIB)

    assert counted(client).keys() == {Q.org}
    assert client.zcard("hr:responses:lapsing") == 1
    assert client.hlen("hr:responses:kept") == 1
    assert not client.keys(f"hr:responses:*:{P.org}")


async def test_what_is_too_large_is_not_kept(valkey: Valkey) -> None:
    store = opened(valkey)
    large = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * DOCUMENT_BYTES_MAX)), items=[])
    await store.keep(P, "r", large)
    assert await store.find("p", "r") is None

    small = opened(valkey, org=1500)
    await small.keep(P, "r", A_KIB)
    assert await small.find("p", "r") is None


@pytest.mark.parametrize(("document_bytes", "items"), [(300, 0), (300, 2), (3000, 4)])
async def test_what_counts_is_what_valkey_takes(
    valkey: Valkey, client: redis.Redis, document_bytes: int, items: int
) -> None:
    store = opened(valkey, org=2**30, everybody=2**30)
    owner = Owner("org_0198f0a0b2c87000a000c4d5e6f70819", "proj_0198f0a0b2c87000a000c4d5e6f70819")
    stored = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * document_bytes)), items=[])

    async def fill(round_number: int) -> None:
        for number in range(3000):
            names = [f"msg_{round_number:016x}{number:08x}{item:08x}" for item in range(items)]
            response = f"resp_{round_number:016x}{number:016x}"
            await store.keep(owner, response, stored, output=named(*names))

    memory: Any = partial(client.info, "memory")

    await fill(0)
    # What the test before has left is freed by a thread.
    await eventually(lambda: memory()["lazyfree_pending_objects"] == 0)
    before, counted_before = memory()["used_memory"], counted(client)[owner.org]
    await fill(1)
    assert memory()["used_memory"] - before == pytest.approx(
        counted(client)[owner.org] - counted_before, rel=0.25
    )
