"""A running gateway for the tests of its HTTP side."""

from collections.abc import AsyncIterator, Callable

import pytest

from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import SHORT_TIMEOUTS, Stack, running_stack, running_stacks


@pytest.fixture
async def stack(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    async with running_stack(account, settings, unused_port()) as running:
        yield running


@pytest.fixture
async def impatient(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    """One that soon gives up an engine that says nothing."""
    async with running_stack(account, settings, unused_port(), timeouts=SHORT_TIMEOUTS) as running:
        yield running


@pytest.fixture
async def gateways(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[list[Stack]]:
    """Two of them for the same account, each with an engine of its own."""
    async with running_stacks(("first", "second"), account, settings, unused_port) as running:
        yield running
