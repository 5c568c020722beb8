"""A running gateway for the tests of its HTTP side."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import Stack, running_stack


@pytest.fixture
async def stack(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    async with running_stack(account, settings, unused_port()) as running:
        yield running


@pytest.fixture
async def gateways(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[list[Stack]]:
    """Two of them for the same account, each with an engine of its own."""
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for name in ("first", "second"):
            state_dir = settings.state_dir / name
            state_dir.mkdir()
            own = replace(settings, name=name, state_dir=state_dir)
            running.append(await stack.enter_async_context(running_stack(account, own, unused_port())))
        yield running
