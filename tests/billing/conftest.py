"""A migrated database for each test, copied from a template that the session migrates once, and the API on it."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from redis.asyncio import Redis

from headrace_billing.app import compose
from headrace_billing.database import Database
from headrace_billing.parts import Parts
from headrace_billing.schema import migrate
from headrace_billing.valkey import connect
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, NOW, Seller
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """Name of a database at the newest revision that nobody is connected to."""
    url = postgres_server.create_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    url = postgres_server.create_database(template=migrated_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Redis]:
    client = connect(valkey_url)
    yield client
    await client.aclose()


@pytest.fixture
def parts(database: Database, valkey: Redis) -> Parts:
    return Parts(
        database=database,
        valkey=valkey,
        admin_token=ADMIN_TOKEN,
        ingest_token=INGEST_TOKEN,
        signing_key=bytes(range(32)),
        now=lambda: NOW,
    )


@pytest.fixture
async def http(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=compose(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as client:
        yield client


@pytest.fixture
def seller(http: httpx2.AsyncClient) -> Seller:
    return Seller(http)
