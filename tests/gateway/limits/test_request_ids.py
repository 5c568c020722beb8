"""A client's own request id is used once, and not burnt by an answer that was lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from headrace_gateway.errors import DuplicateRequest, LimitsUnavailable
from headrace_gateway.limits.request_ids import RequestIds
from headrace_gateway.valkey.connection import Valkey
from tests.gateway.line import Line
from tests.gateway.waiting import eventually


@pytest.fixture
async def line(valkey_url: str) -> AsyncIterator[Line]:
    async with Line().open(valkey_url) as opened:
        yield opened


@pytest.fixture
async def valkey(line: Line) -> AsyncIterator[Valkey]:
    valkey = Valkey(line.url)
    await valkey.start()
    yield valkey
    await valkey.close()


@pytest.fixture
def ids(valkey: Valkey) -> RequestIds:
    return RequestIds(valkey)


@pytest.fixture
def another(valkey: Valkey) -> RequestIds:
    """Another gateway's: it knows of nothing that this one is owed."""
    return RequestIds(valkey)


def claimed(client: redis.Redis) -> int:
    return sum(1 for _ in client.scan_iter("hr:request-id:*"))


async def reconnected(line: Line, valkey: Valkey) -> None:
    line.mute = False
    line.drop()
    await eventually(lambda: not valkey.connected)
    await eventually(lambda: valkey.connected)


async def lose_the_answer(ids: RequestIds, client: redis.Redis, line: Line, valkey: Valkey) -> None:
    line.mute = True
    asking = asyncio.ensure_future(ids.claim("p", "mine"))
    await eventually(lambda: claimed(client) == 1)
    await reconnected(line, valkey)
    with pytest.raises(LimitsUnavailable):
        await asking


async def test_an_id_is_used_once_unless_it_is_given_back(ids: RequestIds, another: RequestIds) -> None:
    claim = await ids.claim("p", "mine")
    for gateway in (ids, another):
        with pytest.raises(DuplicateRequest):
            await gateway.claim("p", "mine")
    await another.claim("q", "mine")
    ids.give_back(claim)
    await another.claim("p", "mine")


async def test_a_retry_after_a_lost_answer_is_served_once(
    ids: RequestIds, another: RequestIds, client: redis.Redis, line: Line, valkey: Valkey
) -> None:
    await lose_the_answer(ids, client, line, valkey)
    await ids.claim("p", "mine")
    for gateway in (ids, another):
        with pytest.raises(DuplicateRequest):
            await gateway.claim("p", "mine")


async def test_what_a_lost_answer_left_is_given_back_and_frees_nobody_elses(
    ids: RequestIds, another: RequestIds, client: redis.Redis, line: Line, valkey: Valkey
) -> None:
    await lose_the_answer(ids, client, line, valkey)
    ids.give_back_owed()
    await another.claim("p", "mine")  # on the same connection, after it
    ids.give_back_owed()
    with pytest.raises(DuplicateRequest):
        await ids.claim("p", "mine")


async def test_what_can_not_be_given_back_now_is_later(
    ids: RequestIds, another: RequestIds, client: redis.Redis, line: Line, valkey: Valkey
) -> None:
    claim = await ids.claim("p", "mine")
    line.mute = True
    line.drop()
    await eventually(lambda: not valkey.connected)
    ids.give_back(claim)
    await reconnected(line, valkey)
    assert claimed(client) == 1
    ids.give_back_owed()
    await eventually(lambda: claimed(client) == 0)
    await another.claim("p", "mine")
    ids.give_back(claim)  # late
    with pytest.raises(DuplicateRequest):
        await another.claim("p", "mine")


async def test_who_leaves_before_the_answer_has_not_used_its_id(ids: RequestIds, client: redis.Redis) -> None:
    asking = asyncio.ensure_future(ids.claim("p", "mine"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await ids.claim("p", "mine")
