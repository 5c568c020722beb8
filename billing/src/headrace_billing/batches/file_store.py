"""Files in Postgres, in pieces. One that is not whole yet is nobody's: it is found by no question, and goes by itself."""

from collections.abc import AsyncIterator
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches.file import KEPT_TIME, PIECE_BYTES, UPLOAD_TIME, File, Purpose, StorageFull
from headrace_billing.database import Database
from headrace_billing.ids import new_id

EXPIRED_MAX = 20
"""Removed at once: each may have hundreds of pieces."""


class Cutter:
    """Cuts what comes into the pieces that are stored."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, content: bytes) -> list[bytes]:
        self._rest += content
        pieces = []
        while len(self._rest) >= PIECE_BYTES:
            pieces.append(bytes(self._rest[:PIECE_BYTES]))
            del self._rest[:PIECE_BYTES]
        return pieces

    def rest(self) -> list[bytes]:
        return [bytes(self._rest)] if self._rest else []


async def begin(session: AsyncSession, *, project: str, purpose: Purpose, at: datetime) -> str:
    """The id of a file that gets its pieces, its name and the end of its upload later."""
    file = new_id("file", at)
    await session.execute(
        INSERT_FILE,
        {"id": file, "project": project, "purpose": purpose, "at": at, "expires_at": at + KEPT_TIME},
    )
    return file


async def add_piece(session: AsyncSession, file: str, number: int, content: bytes) -> None:
    await session.execute(INSERT_PIECE, {"file": file, "number": number, "content": content})
    await session.execute(ADD_BYTES, {"id": file, "bytes": len(content)})


async def check_room(session: AsyncSession, project: str, *, bytes_max: int) -> None:
    """Raises `StorageFull`. Uploads of one project at once may together be a piece each beyond."""
    if (await session.execute(STORED_BYTES, {"project": project})).scalar_one() > bytes_max:
        raise StorageFull(bytes_max)


async def complete(session: AsyncSession, file: str, *, filename: str) -> File:
    row = (await session.execute(COMPLETE, {"id": file, "filename": filename})).mappings().one()
    return File(**row)


async def abandon(session: AsyncSession, file: str) -> None:
    await session.execute(DELETE_PARTIAL, {"id": file})


async def add(
    session: AsyncSession, content: AsyncIterator[bytes], *, project: str, filename: str, at: datetime
) -> str | None:
    """The id of a file of answers, which is stored whatever its size; null where there is nothing to store."""
    file, number, cutter = None, 0, Cutter()
    async for part in content:
        if file is None:
            file = await begin(session, project=project, purpose="batch_output", at=at)
        for piece in cutter.add(part):
            await add_piece(session, file, number, piece)
            number += 1
    if file is None:
        return None
    for piece in cutter.rest():
        await add_piece(session, file, number, piece)
    await complete(session, file, filename=filename)
    return file


async def find(session: AsyncSession, file: str, *, project: str, at: datetime) -> File | None:
    """Of the project's own that stand."""
    row = (await session.execute(SELECT_FILE, {"id": file, "project": project, "at": at})).mappings().first()
    return None if row is None else File(**row)


async def page(
    session: AsyncSession,
    *,
    project: str,
    purpose: str | None,
    after: str | None,
    oldest_first: bool,
    limit: int,
    at: datetime,
) -> list[File]:
    """`after`: the last of the page before."""
    rows = await session.execute(
        SELECT_OLDEST if oldest_first else SELECT_NEWEST,
        {"project": project, "purpose": purpose, "after": after, "limit": limit, "at": at},
    )
    return [File(**row) for row in rows.mappings()]


async def pieces(database: Database, file: str) -> AsyncIterator[bytes]:
    """Each in a transaction of its own: who reads them may take its time."""
    number = 0
    while True:
        async with database.begin() as session:
            content = (await session.execute(SELECT_PIECE, {"file": file, "number": number})).scalar()
        if content is None:
            return
        yield content
        number += 1


async def remove(session: AsyncSession, file: str, *, project: str, at: datetime) -> bool:
    result = await session.execute(DELETE_FILE, {"id": file, "project": project, "at": at})
    return result.first() is not None


async def remove_expired(session: AsyncSession, *, at: datetime) -> int:
    """How many; what was never whole goes too."""
    values = {"at": at, "given_up_at": at - UPLOAD_TIME, "limit": EXPIRED_MAX}
    return len((await session.execute(DELETE_EXPIRED, values)).all())


COLUMNS = "id, project, purpose, filename, bytes, created_at, expires_at"

INSERT_FILE = text("""
    INSERT INTO files (id, project, purpose, filename, bytes, created_at, expires_at)
    VALUES (:id, :project, :purpose, '', 0, :at, :expires_at)
""")

INSERT_PIECE = text("INSERT INTO file_pieces (file, number, content) VALUES (:file, :number, :content)")

ADD_BYTES = text("UPDATE files SET bytes = bytes + :bytes WHERE id = :id")

STORED_BYTES = text("SELECT coalesce(sum(bytes), 0) FROM files WHERE project = :project")

COMPLETE = text(f"UPDATE files SET complete = true, filename = :filename WHERE id = :id RETURNING {COLUMNS}")  # noqa: S608

SELECT_FILE = text(f"""
    SELECT {COLUMNS} FROM files WHERE id = :id AND project = :project AND complete AND expires_at > :at
""")  # noqa: S608

OF_PROJECT = """
    project = :project AND complete AND expires_at > :at
    AND (CAST(:purpose AS text) IS NULL OR purpose = :purpose)
"""

SELECT_OLDEST = text(f"""
    SELECT {COLUMNS} FROM files WHERE {OF_PROJECT} AND (CAST(:after AS text) IS NULL OR id > :after)
    ORDER BY id LIMIT :limit
""")  # noqa: S608

SELECT_NEWEST = text(f"""
    SELECT {COLUMNS} FROM files WHERE {OF_PROJECT} AND (CAST(:after AS text) IS NULL OR id < :after)
    ORDER BY id DESC LIMIT :limit
""")  # noqa: S608

SELECT_PIECE = text("SELECT content FROM file_pieces WHERE file = :file AND number = :number")

DELETE_FILE = text("""
    DELETE FROM files WHERE id = :id AND project = :project AND complete AND expires_at > :at RETURNING id
""")

DELETE_PARTIAL = text("DELETE FROM files WHERE id = :id AND NOT complete")

DELETE_EXPIRED = text("""
    DELETE FROM files WHERE id IN (
      SELECT id FROM files WHERE expires_at <= :at OR NOT complete AND created_at <= :given_up_at LIMIT :limit)
    RETURNING id
""")
