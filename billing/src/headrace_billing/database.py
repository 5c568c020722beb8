"""The way to Postgres: one pool a process, and sessions that are one transaction each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, LiteralString

from psycopg import AsyncConnection
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

POOL_SIZE = 10
POOL_OVERFLOW = 10
# Long enough for a slow disk; short enough that a caller gets an answer before its own timeout.
POOL_WAIT_SECONDS = 10
STATEMENT_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_SECONDS = 5

BEFORE_COMMIT: ContextVar[Callable[[AsyncSession], Awaitable[None]] | None] = ContextVar(
    "BEFORE_COMMIT", default=None
)
"""What is to be written with whatever the work under way commits."""


class Database:
    """`begin()` gives a session whose transaction commits at the end of the block and rolls back on an error."""

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = create_async_engine(
            psycopg_url(url),
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            # Parameters hold names and amounts of customers, which no log line needs.
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                # A plan that was made when a table was empty reads all of it, and would be kept when it has grown.
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC"
                " -c plan_cache_mode=force_custom_plan",
            },
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            yield session
            if (hook := BEFORE_COMMIT.get()) is not None:
                await hook(session)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A read-only session that sees one moment of the books, however many queries it runs."""
        async with self.begin() as session:
            await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield session

    async def close(self) -> None:
        await self.engine.dispose()


async def copy_rows(
    session: AsyncSession,
    statement: LiteralString,
    rows: Iterable[Sequence[Any]],
    *,
    types: Sequence[str] = (),
) -> None:
    """COPY within the session's transaction. `types` are needed, and rows must have just those, in binary format.

    What the database refuses is raised by psycopg itself, not wrapped by SQLAlchemy.
    """
    connection = await (await session.connection()).get_raw_connection()
    driver = connection.driver_connection
    assert isinstance(driver, AsyncConnection), type(driver)
    async with driver.cursor() as cursor, cursor.copy(statement) as copy:
        if types:
            copy.set_types(types)
        for row in rows:
            await copy.write_row(row)


def psycopg_url(url: str) -> str:
    """The same address for SQLAlchemy: `postgresql://` means psycopg 3 here."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
