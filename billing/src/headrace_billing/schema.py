"""The database's schema: bringing it to the newest revision, and telling whether it is there.

The revisions stand beside the package in the repository and inside it in an installed wheel.
"""

import time
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import CONNECT_TIMEOUT_SECONDS, psycopg_url

log = structlog.get_logger()

PACKAGE = Path(__file__).parent
PLACES = (PACKAGE / "migrations", PACKAGE.parent.parent / "migrations")

# Any fixed number: two migrations started at once must follow each other.
MIGRATION_LOCK = 0x68656164

# Soon enough that nobody notices the wait, seldom enough that a hundred pods are no load.
LOOK_SECONDS = 2.0


class SchemaNotReached(Exception):
    """The database did not come to this program's revision in the time given."""

    code = "schema_not_reached"


def migrate(url: str) -> None:
    """Upgrades the database at `url` to the newest revision; returns when it stands."""
    engine = create_engine(psycopg_url(url))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": MIGRATION_LOCK})
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()


def newest() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "no migrations found"
    return head


def serves(revision: str | None) -> bool:
    """Whether this program can work on a database at `revision`.

    A revision that it does not know was made by a newer one. Migrations only widen what the release before them
    uses (expand, and contract a release later), so the old pods of a rolling upgrade go on.
    """
    if revision is None:
        return False
    script = ScriptDirectory.from_config(_config())
    return revision == newest() or revision not in {known.revision for known in script.walk_revisions()}


def wait(url: str, *, seconds_max: float) -> None:
    """Returns once the database at `url` serves this program; raises `SchemaNotReached` after `seconds_max`."""
    engine = create_engine(psycopg_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS})
    deadline = time.monotonic() + seconds_max
    try:
        while True:
            try:
                with engine.connect() as connection:
                    seen = _revision(connection)
                if serves(seen):
                    return
                state = f"the database is at {seen}, this program needs {newest()}"
            except OperationalError as error:
                state = f"the database does not let us in: {error.orig}"
            if time.monotonic() + LOOK_SECONDS > deadline:
                raise SchemaNotReached(state)
            log.info("schema_awaited", state=state)
            time.sleep(LOOK_SECONDS)
    finally:
        engine.dispose()


async def current(session: AsyncSession) -> str | None:
    """The revision that the database is at; null where no migration ever ran."""
    return await session.run_sync(lambda plain: _revision(plain.connection()))


def _revision(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _config() -> Config:
    config = Config()
    place = next(place for place in PLACES if (place / "env.py").is_file())
    config.set_main_option("script_location", str(place))
    config.set_main_option("path_separator", "os")
    return config
