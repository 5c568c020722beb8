"""An installation for the guides: API and worker, on a clock that can be moved, and customers who have used something."""

from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from tests.billing.test_processes import environment, running, until


@pytest.fixture
def env(database_url: str, valkey_url: str, unused_port: Callable[[], int]) -> dict[str, str]:
    return {**environment(database_url, valkey_url, unused_port()), "HEADRACE_BILLING_TEST_CLOCK": "true"}


@pytest.fixture
async def address(env: dict[str, str]) -> AsyncIterator[str]:
    url = f"http://127.0.0.1:{env['HEADRACE_BILLING_PORT']}"
    with running("headrace_billing", "api", env=env), running("headrace_billing", "worker", env=env):
        async with httpx2.AsyncClient(base_url=url) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(ready)
        yield url
