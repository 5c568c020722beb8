"""Files in Postgres, in pieces."""

from collections.abc import AsyncIterator
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches.file import (
    FILE_BYTES_MAX,
    KEPT_TIME,
    PIECE_BYTES,
    PROJECT_BYTES_MAX,
    File,
    FileTooLarge,
    Purpose,
    StorageFull,
)
from headrace_billing.ids import new_id


async def add(
    session: AsyncSession,
    pieces: AsyncIterator[bytes],
    *,
    project: str,
    purpose: Purpose,
    filename: str,
    at: datetime,
) -> File:
    """Raises `FileTooLarge` or `StorageFull` of what a customer sends; answers are stored whatever their size."""
    # One upload of a project at a time, so that together they keep to its bound.
    await session.execute(LOCK_PROJECT, {"project": project})
    stored = int((await session.execute(STORED_BYTES, {"project": project})).scalar_one())
    values = {"id": new_id("file", at), "project": project, "purpose": purpose, "filename": filename}
    values |= {"created_at": at, "expires_at": at + KEPT_TIME}
    await session.execute(INSERT_FILE, values)
    size, number, buffer = 0, 0, bytearray()
    async for piece in pieces:
        buffer += piece
        size += len(piece)
        if purpose == "batch" and size > FILE_BYTES_MAX:
            raise FileTooLarge
        if purpose == "batch" and stored + size > PROJECT_BYTES_MAX:
            raise StorageFull
        while len(buffer) >= PIECE_BYTES:
            await _add_piece(session, values["id"], number, bytes(buffer[:PIECE_BYTES]))
            del buffer[:PIECE_BYTES]
            number += 1
    if buffer:
        await _add_piece(session, values["id"], number, bytes(buffer))
    await session.execute(SET_BYTES, {"id": values["id"], "bytes": size})
    return File(**values, bytes=size)


async def _add_piece(session: AsyncSession, file: str, number: int, content: bytes) -> None:
    await session.execute(INSERT_PIECE, {"file": file, "number": number, "content": content})


async def find(session: AsyncSession, file: str, *, project: str, at: datetime) -> File | None:
    """Of the project's own that stand."""
    row = (await session.execute(SELECT_FILE, {"id": file, "project": project, "at": at})).mappings().first()
    return None if row is None else File(**row)


async def page(session: AsyncSession, *, project: str, after: str, limit: int, at: datetime) -> list[File]:
    rows = await session.execute(
        SELECT_PAGE, {"project": project, "after": after, "limit": limit, "at": at}
    )
    return [File(**row) for row in rows.mappings()]


async def pieces_of(session: AsyncSession, file: str) -> AsyncIterator[bytes]:
    number = 0
    while True:
        content = (await session.execute(SELECT_PIECE, {"file": file, "number": number})).scalar()
        if content is None:
            return
        yield content
        number += 1


async def lines_of(session: AsyncSession, file: str) -> AsyncIterator[bytes]:
    """Without those that are empty."""
    rest = b""
    async for piece in pieces_of(session, file):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


async def remove(session: AsyncSession, file: str, *, project: str) -> bool:
    result = await session.execute(DELETE_FILE, {"id": file, "project": project})
    return result.first() is not None


async def remove_expired(session: AsyncSession, *, at: datetime) -> int:
    return len((await session.execute(DELETE_EXPIRED, {"at": at})).all())


LOCK_PROJECT = text("SELECT pg_advisory_xact_lock(hashtextextended('files:' || :project, 0))")

STORED_BYTES = text("SELECT coalesce(sum(bytes), 0) FROM files WHERE project = :project")

INSERT_FILE = text("""
    INSERT INTO files (id, project, purpose, filename, bytes, created_at, expires_at)
    VALUES (:id, :project, :purpose, :filename, 0, :created_at, :expires_at)
""")

INSERT_PIECE = text("INSERT INTO file_pieces (file, number, content) VALUES (:file, :number, :content)")

SET_BYTES = text("UPDATE files SET bytes = :bytes WHERE id = :id")

SELECT_FILE = text("""
    SELECT id, project, purpose, filename, bytes, created_at, expires_at FROM files
    WHERE id = :id AND project = :project AND expires_at > :at
""")

SELECT_PAGE = text("""
    SELECT id, project, purpose, filename, bytes, created_at, expires_at FROM files
    WHERE project = :project AND id > :after AND expires_at > :at ORDER BY id LIMIT :limit
""")

SELECT_PIECE = text("SELECT content FROM file_pieces WHERE file = :file AND number = :number")

DELETE_FILE = text("DELETE FROM files WHERE id = :id AND project = :project RETURNING id")

DELETE_EXPIRED = text("""
    DELETE FROM files WHERE id IN (SELECT id FROM files WHERE expires_at <= :at ORDER BY expires_at LIMIT 20)
    RETURNING id
""")
