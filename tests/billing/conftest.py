"""A migrated database for each test, copied from a template that the session migrates once."""

from collections.abc import AsyncIterator

import pytest

from headrace_billing.database import Database
from headrace_billing.schema import migrate
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """Name of a database at the newest revision that nobody is connected to."""
    url = postgres_server.create_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> str:
    return postgres_server.create_database(template=migrated_template)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()
