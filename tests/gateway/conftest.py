"""Fixtures that all of the gateway's tests may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account, open_account

INGEST_TOKEN = "ingest-token-of-the-tests"

VALKEY_TIMEOUT_SECONDS = 20.0
"""For tests that are not of a Valkey that is away."""


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as opened:
        yield opened


@pytest.fixture
def account(client: redis.Redis) -> Account:
    """A prepaid account with a unit of currency, whose every token costs a micro-unit."""
    return open_account(client)


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> MeterSettings:
    return MeterSettings(
        name="gateway",
        state_dir=tmp_path,
        valkey_url=valkey_url,
        billing_url="http://127.0.0.1:9",  # discard: nobody answers
        ingest_token=INGEST_TOKEN,
        segment_bytes=512 * 1024,
        journal_bytes_max=4 * 512 * 1024,
        heartbeat_seconds=0.1,
        inflight_slots=64,
        # A Valkey that the machine keeps waiting for some seconds is not away, and what a settlement did can be seen
        # when it is over: the tests of what happens otherwise say so.
        valkey_timeout_seconds=VALKEY_TIMEOUT_SECONDS,
        settle_wait_seconds=VALKEY_TIMEOUT_SECONDS,
    )
