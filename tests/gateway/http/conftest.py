"""A running gateway for the tests of its HTTP side."""

from collections.abc import AsyncIterator, Callable

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
