"""The database's schema: bringing it to the newest revision, and telling whether it is there.

The revisions stand beside the package in the repository and inside it in an installed wheel.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import psycopg_url

PACKAGE = Path(__file__).parent
PLACES = (PACKAGE / "migrations", PACKAGE.parent.parent / "migrations")

# Any fixed number: two migrations started at once must follow each other.
MIGRATION_LOCK = 0x68656164


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


async def current(session: AsyncSession) -> str | None:
    """The revision that the database is at; null where no migration ever ran."""
    if (await session.execute(text("SELECT to_regclass('alembic_version')"))).scalar_one() is None:
        return None
    version: str | None = (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    return version


def _config() -> Config:
    config = Config()
    place = next(place for place in PLACES if (place / "env.py").is_file())
    config.set_main_option("script_location", str(place))
    config.set_main_option("path_separator", "os")
    return config
