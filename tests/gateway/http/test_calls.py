"""How often a request calls Valkey, as Valkey itself sees it: each call is a part of its one core."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from tests.gateway.account import Account
from tests.gateway.http.stack import SLICE_TOKENS, Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

BESIDE = {"heartbeat", "reap", "changed"}
"""What goes on whether or not anybody asks for anything, in rounds of a process."""

OURS = {"HELLO", "CLIENT"}
"""By which this test's own connection begins."""


async def test_a_plain_request_is_one_call_to_admit_and_one_to_settle(stack: Stack) -> None:
    await stack.post()  # its records are read then
    async with _calls(stack.account) as calls:
        for _ in range(5):
            assert (await stack.post()).status_code == 200
    assert _of_requests(calls) == {"admit": 5, "settle": 5}


@pytest.mark.parametrize(("tokens", "slices"), [(SLICE_TOKENS, 1), (SLICE_TOKENS + 1, 2), (30, 4)])
async def test_a_stream_calls_once_more_for_each_slice_that_it_used_up(
    stack: Stack, tokens: int, slices: int
) -> None:
    await stack.post()
    stack.engine.behave(Behaviour(tokens=tokens, before_each_seconds=0.002))
    async with _calls(stack.account) as calls:
        assert (await stack.events_of())[-1] == "[DONE]"
    assert _of_requests(calls) == Counter(admit=1, extend=slices - 1, settle=1)


async def test_one_heartbeat_renews_all_that_runs(stack: Stack) -> None:
    await stack.post()
    renewed = asyncio.Event()
    stack.engine.default = Behaviour(tokens=SLICE_TOKENS, ends=renewed)
    began = time.monotonic()
    async with _calls(stack.account) as calls:
        streams = asyncio.gather(*(stack.events_of() for _ in range(20)))
        await eventually(lambda: len(stack.meter.running) == 20)
        for _ in range(2):
            await eventually(partial(_has_beaten, stack, since=stack.meter.rounds["heartbeat"]))
        renewed.set()
        await streams
    rounds = (time.monotonic() - began) / stack.meter.settings.heartbeat_seconds
    assert 2 <= calls["heartbeat"] <= rounds + 1
    assert _of_requests(calls) == {"admit": 20, "settle": 20}


def _has_beaten(stack: Stack, *, since: float) -> bool:
    return stack.meter.rounds["heartbeat"] > since


def _of_requests(calls: Counter[str]) -> Counter[str]:
    return +Counter({name: count for name, count in calls.items() if name not in BESIDE | OURS})


@contextlib.asynccontextmanager
async def _calls(account: Account) -> AsyncIterator[Counter[str]]:
    """Commands by name, functions by theirs; complete when the block has ended."""
    counted: Counter[str] = Counter()
    client: Any = account.client  # redis-py has no types here
    with client.monitor() as monitor:
        yield counted
        account.client.echo("that was all")
        await asyncio.to_thread(_count, monitor, counted)


def _count(monitor: Any, counted: Counter[str]) -> None:
    while True:
        seen = monitor.next_command()
        if seen["client_type"] == "lua":
            continue  # what a function does, not a call
        command, *arguments = seen["command"].split(" ")
        if command == "ECHO":
            return
        counted[arguments[0].rpartition("_")[2] if command == "FCALL" else command] += 1
