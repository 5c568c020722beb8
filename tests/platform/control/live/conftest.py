"""A cluster of its own for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.platform.control.live.ground import Ground, ground


@pytest.fixture(name="ground")
async def fresh_ground() -> AsyncIterator[Ground]:
    async with ground() as fresh:
        yield fresh
