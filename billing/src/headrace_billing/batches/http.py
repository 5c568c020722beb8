"""The routes of batches, as OpenAI's clients ask them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints

from headrace_billing.batches import file_store, store
from headrace_billing.batches.batch import (
    CANCELLABLE,
    WINDOW_TIME,
    Batch,
    BatchEnded,
    BatchStatus,
    document,
)
from headrace_billing.batches.callers import BoundsOf, OwnerOf
from headrace_billing.batches.documents import listed
from headrace_billing.bodies import PRINTABLE, Body, Id
from headrace_billing.errors import NotFound
from headrace_billing.ids import new_id
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["batches"])

METADATA_MAX = 16
PAGE_MAX = 100

Label = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]
Value = Annotated[str, StringConstraints(max_length=512, pattern=PRINTABLE)]


class NewBatch(Body):
    input_file_id: Id
    endpoint: Literal[
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"
    ]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[Label, Value], Field(max_length=METADATA_MAX)] | None = None


@router.post("/v1/batches")
async def add_batch(body: NewBatch, parts: PartsOf, owner: OwnerOf, _: BoundsOf) -> dict[str, Any]:
    """Its file is looked at next; what is wrong with it stands in `errors` then."""
    at = parts.now()
    batch = Batch(
        id=new_id("batch", at),
        project=owner.project,
        key=owner.key,
        endpoint=body.endpoint,
        input_file=body.input_file_id,
        metadata=body.metadata or {},
        status=BatchStatus.VALIDATING,
        created_at=at,
        expires_at=at + WINDOW_TIME,
    )
    async with parts.database.begin() as session:
        file = await file_store.find(session, body.input_file_id, project=owner.project, at=at)
        if file is None or file.purpose != "batch":
            raise NotFound("file for a batch", body.input_file_id)
        await store.add(session, batch)
    return document(batch)


@router.get("/v1/batches")
async def list_batches(
    parts: PartsOf,
    owner: OwnerOf,
    *,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 20,
) -> dict[str, Any]:
    """The newest first."""
    async with parts.database.begin() as session:
        found = await store.page(session, project=owner.project, after=after, limit=limit + 1)
    return listed([document(each) for each in found], limit=limit)


@router.get("/v1/batches/{batch_id}")
async def show_batch(batch_id: Id, parts: PartsOf, owner: OwnerOf) -> dict[str, Any]:
    async with parts.database.begin() as session:
        batch = await store.find(session, batch_id, project=owner.project)
    if batch is None:
        raise NotFound("batch", batch_id)
    return document(batch)


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: Id, parts: PartsOf, owner: OwnerOf) -> dict[str, Any]:
    """What is under way comes back first; then the batch is `cancelled`, and its answers so far are in its files."""
    async with parts.database.begin() as session:
        batch = await store.find(session, batch_id, project=owner.project, lock=True)
        if batch is None:
            raise NotFound("batch", batch_id)
        if batch.status in CANCELLABLE:
            await store.cancel(session, batch_id, at=parts.now())
            batch = await store.find(session, batch_id, project=owner.project)
            assert batch is not None, batch_id
        elif batch.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
            raise BatchEnded(batch_id, batch.status)
    return document(batch)
