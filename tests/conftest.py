"""What every test may ask for: a real Postgres, a real Valkey, free ports. And nothing outside this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis

from headrace_platform.local.valkey import Valkey
from tests.support.engine import Engine, running_engine
from tests.support.ports import forbid_the_outside_world, unused_ports
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.valkey import running_valkey

# Whoever gives the key of a Stripe test account wants the tests of payments to run there.
if "STRIPE_API_KEY" not in os.environ:
    forbid_the_outside_world()

# A shell's background job has interrupts ignored, and every program that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: Valkey) -> str:
    """Address of an empty Valkey."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
        # Scripts too: a test that forgets to load its own must not live on another's.
        client.script_flush()
        client.function_flush()
    return valkey_server.url


@pytest.fixture(scope="session")
def unused_port() -> Callable[[], int]:
    return partial(next, unused_ports())


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for every test that is marked `engine`; it takes half a minute to come up."""
    with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running
