"""The routes of files, as OpenAI's clients ask them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from headrace_billing.batches import file_store
from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.batches.callers import BoundsOf, OwnerOf
from headrace_billing.batches.documents import listed
from headrace_billing.batches.file import File, FileTooLarge, document
from headrace_billing.batches.file_store import Cutter
from headrace_billing.batches.upload import Upload
from headrace_billing.bodies import Id
from headrace_billing.errors import InvalidRequest, NotFound
from headrace_billing.parts import Parts, PartsOf

router = APIRouter(tags=["files"])

PAGE_MAX = 100
ASKED_MAX = 10_000
"""OpenAI's own; whoever asks for more than a page gets a page, and `has_more`."""

FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"type": "string", "enum": ["batch"]},
                },
                "additionalProperties": False,
            }
        }
    },
}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file as it is.", "content": {"application/octet-stream": {}}}
}


@router.post("/v1/files", openapi_extra={"requestBody": FORM})
async def upload_file(request: Request, parts: PartsOf, owner: OwnerOf, bounds: BoundsOf) -> dict[str, Any]:
    """The requests of a batch: JSON Lines, for `purpose` `batch`. Kept for 30 days."""
    upload = Upload(request.headers.get("content-type", ""))
    async with parts.database.begin() as session:
        await file_store.check_room(session, owner.project, bytes_max=bounds.project_bytes_max)
        file = await file_store.begin(session, project=owner.project, purpose="batch", at=parts.now())
    try:
        return document(await _take(request, parts, upload, file, project=owner.project, bounds=bounds))
    except BaseException:
        # Whoever dies before this leaves it to the worker.
        async with parts.database.begin() as session:
            await file_store.abandon(session, file)
        raise


async def _take(
    request: Request, parts: Parts, upload: Upload, file: str, *, project: str, bounds: BatchBounds
) -> File:
    number, size, cutter = 0, 0, Cutter()

    async def store(pieces: list[bytes]) -> None:
        nonlocal number
        for piece in pieces:
            async with parts.database.begin() as session:
                await file_store.add_piece(session, file, number, piece)
                await file_store.check_room(session, project, bytes_max=bounds.project_bytes_max)
            number += 1

    async for content in upload.pieces(request.stream()):
        size += len(content)
        if size > bounds.file_bytes_max:
            raise FileTooLarge(bounds.file_bytes_max)
        await store(cutter.add(content))
    await store(cutter.rest())
    _check(upload.fields)
    assert upload.filename is not None, "an upload without a file was refused"
    async with parts.database.begin() as session:
        return await file_store.complete(session, file, filename=upload.filename)


def _check(fields: dict[str, str]) -> None:
    if fields.pop("purpose", None) != "batch":
        raise InvalidRequest("purpose must be `batch`: there are no files for anything else.")
    if fields:
        raise InvalidRequest(f"Unknown parts: {', '.join(sorted(fields))}. There are `file` and `purpose`.")


@router.get("/v1/files")
async def list_files(
    parts: PartsOf,
    owner: OwnerOf,
    *,
    purpose: Literal["batch", "batch_output"] | None = None,
    after: Id | None = None,
    order: Literal["asc", "desc"] = "desc",
    limit: Annotated[int, Query(ge=1, le=ASKED_MAX)] = PAGE_MAX,
) -> dict[str, Any]:
    """The newest first, unless asked otherwise; at most 100 at once."""
    limit = min(limit, PAGE_MAX)
    async with parts.database.begin() as session:
        found = await file_store.page(
            session,
            project=owner.project,
            purpose=purpose,
            after=after,
            oldest_first=order == "asc",
            limit=limit + 1,
            at=parts.now(),
        )
    return listed([document(each) for each in found], limit=limit)


@router.get("/v1/files/{file_id}")
async def show_file(file_id: Id, parts: PartsOf, owner: OwnerOf) -> dict[str, Any]:
    return document(await _found(parts, file_id, project=owner.project))


@router.get("/v1/files/{file_id}/content", responses=CONTENT, response_class=StreamingResponse)
async def show_file_content(file_id: Id, parts: PartsOf, owner: OwnerOf) -> StreamingResponse:
    file = await _found(parts, file_id, project=owner.project)
    return StreamingResponse(
        file_store.pieces(parts.database, file_id),
        media_type="application/octet-stream",
        headers={"content-length": str(file.bytes)},
    )


@router.delete("/v1/files/{file_id}")
async def remove_file(file_id: Id, parts: PartsOf, owner: OwnerOf) -> dict[str, Any]:
    """A batch that was made of it goes on."""
    async with parts.database.begin() as session:
        if not await file_store.remove(session, file_id, project=owner.project, at=parts.now()):
            raise NotFound("file", file_id)
    return {"id": file_id, "object": "file", "deleted": True}


async def _found(parts: Parts, file_id: str, *, project: str) -> File:
    async with parts.database.begin() as session:
        file = await file_store.find(session, file_id, project=project, at=parts.now())
    if file is None:
        raise NotFound("file", file_id)
    return file
