"""Kept responses: found by their own project, and never more of them than fit."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import redis

from headrace_gateway.responses.store import DOCUMENT_BYTES_MAX, ResponseStore, Stored
from headrace_gateway.valkey.connection import Valkey
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS
from tests.gateway.waiting import eventually

A_KIB = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * 1000)), items=[])


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    opened = Valkey(valkey_url, timeout_seconds=VALKEY_TIMEOUT_SECONDS)
    await opened.start()
    yield opened
    await opened.close()


async def kept(store: ResponseStore, project: str, *names: str) -> list[str]:
    return [name for name in names if await store.find(project, name) is not None]


async def test_a_response_is_found_by_its_own_project_until_it_is_forgotten(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = ResponseStore(valkey)
    stored = Stored(response=msgspec.Raw(b'{"id":"r"}'), items=[msgspec.Raw(b"{}")])
    await store.keep("p", "r", stored)

    assert await store.find("p", "r") == stored
    assert await store.find("q", "r") is None
    assert not await store.forget("q", "r")
    assert await store.forget("p", "r")
    assert await store.find("p", "r") is None
    assert {key.decode() for key in client.keys("hr:response*")} == {  # type: ignore[union-attr]
        "hr:responses:of:p:bytes",
        "hr:responses:all:bytes",
    }
    assert client.mget("hr:responses:of:p:bytes", "hr:responses:all:bytes") == [b"0", b"0"]


def named(*names: str) -> list[msgspec.Raw]:
    return [msgspec.Raw(b'{"id":"%b"}' % name.encode()) for name in names]


async def test_an_item_is_found_by_its_own_project_until_its_response_is_forgotten(
    valkey: Valkey, client: redis.Redis
) -> None:
    store = ResponseStore(valkey)
    a, b, c = named("a", "b", "c")
    await store.keep("p", "r", Stored(response=msgspec.Raw(b"{}"), items=[a, b]), output=[a, b])
    await store.keep("p", "later", Stored(response=msgspec.Raw(b"{}"), items=[a, b, c]), output=[c])

    assert await store.items("p", ["a", "c", "none", "no such id", "x" * 129]) == {"a": a, "c": c}
    assert await store.items("q", ["a", "c"]) == {}
    assert client.pttl("hr:responses:item:p:a") > 0
    assert await store.forget("p", "r")
    assert await store.items("p", ["a", "c"]) == {"c": c}
    assert await store.forget("p", "later")
    assert {key.decode() for key in client.keys("hr:response*")} == {  # type: ignore[union-attr]
        "hr:responses:of:p:bytes",
        "hr:responses:all:bytes",
    }
    assert client.mget("hr:responses:of:p:bytes", "hr:responses:all:bytes") == [b"0", b"0"]


async def test_an_item_of_two_responses_is_the_later_one_s(valkey: Valkey) -> None:
    store = ResponseStore(valkey)
    [a] = named("a")
    for response in ("first", "second"):
        await store.keep("p", response, Stored(response=msgspec.Raw(b"{}"), items=[a]), output=[a])
    await store.forget("p", "first")
    assert await store.items("p", ["a"]) == {"a": a}


async def test_items_that_are_found_take_room_too(valkey: Valkey) -> None:
    store = ResponseStore(valkey, project_bytes_max=3000)
    for name in ("a", "b"):
        output = named(*[f"{name}{number}" for number in range(4)])
        await store.keep("p", name, A_KIB, output=output)
    assert await kept(store, "p", "a", "b") == ["b"]
    assert await store.items("p", ["a1"]) == {}


async def test_the_oldest_of_a_project_make_room_and_no_one_else_s(valkey: Valkey) -> None:
    store = ResponseStore(valkey, project_bytes_max=3500)
    await store.keep("q", "other", A_KIB)
    for name in ("a", "b", "c", "d"):
        await store.keep("p", name, A_KIB)

    assert await kept(store, "p", "a", "b", "c", "d") == ["b", "c", "d"]
    assert await kept(store, "q", "other") == ["other"]


async def test_the_oldest_of_all_make_room_where_all_are_too_many(valkey: Valkey) -> None:
    store = ResponseStore(valkey, all_bytes_max=2500)
    for project in ("p", "q", "s"):
        await store.keep(project, "r", A_KIB)

    assert [await kept(store, project, "r") for project in ("p", "q", "s")] == [[], ["r"], ["r"]]


async def test_one_kept_twice_counts_once(valkey: Valkey, client: redis.Redis) -> None:
    store = ResponseStore(valkey)
    await store.keep("p", "r", A_KIB)
    once = client.get("hr:responses:all:bytes")
    await store.keep("p", "r", A_KIB)

    assert client.get("hr:responses:all:bytes") == once


async def test_what_has_lapsed_makes_room(valkey: Valkey, client: redis.Redis) -> None:
    brief = ResponseStore(valkey, life_seconds=0.01)
    await brief.keep("p", "r", A_KIB)
    await eventually(lambda: not client.keys("hr:response:p:*"))
    await ResponseStore(valkey).keep("q", "r", A_KIB)

    assert client.get("hr:responses:of:p:bytes") == b"0"
    assert client.zcard("hr:responses:all") == 1


async def test_what_is_too_large_is_not_kept(valkey: Valkey) -> None:
    store = ResponseStore(valkey)
    large = Stored(response=msgspec.Raw(b'"%b"' % (b"x" * DOCUMENT_BYTES_MAX)), items=[])
    await store.keep("p", "r", large)
    assert await store.find("p", "r") is None

    small = ResponseStore(valkey, project_bytes_max=500)
    await small.keep("p", "r", A_KIB)
    assert await small.find("p", "r") is None
