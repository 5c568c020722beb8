"""The FOCUS file of a customer, streamed document by document, so that its size costs no memory."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime
from sqlalchemy import text

from headrace_billing.accounts import store as accounts
from headrace_billing.bodies import Id
from headrace_billing.callers import AdminOnly
from headrace_billing.database import Database
from headrace_billing.errors import InvalidRequest
from headrace_billing.intervals import utc
from headrace_billing.invoicing.focus import COLUMNS, Row, credit_note_rows, invoice_rows
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly])

DOCUMENTS_READ_AT_ONCE = 20


@router.get("/v1/organizations/{organization_id}/focus.csv", response_class=StreamingResponse)
async def export_focus(
    organization_id: Id, parts: PartsOf, start: AwareDatetime, end: AwareDatetime
) -> StreamingResponse:
    """FOCUS 1.2: invoices of periods that end in (start, end], and credit notes that were issued then."""
    since, until = utc(start), utc(end)
    if since >= until:
        raise InvalidRequest("start: must be before end.")
    async with parts.database.begin() as session:
        await accounts.organization(session, organization_id)
    name = f"focus-{organization_id}-{since:%Y-%m-%d}.csv"
    return StreamingResponse(
        _lines(parts.database, organization_id, since, until),
        media_type="text/csv",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _lines(database: Database, organization: str, start: datetime, end: datetime) -> AsyncIterator[str]:
    yield _written([dict(zip(COLUMNS, COLUMNS, strict=True))])
    async with database.snapshot() as session:
        rows = await session.stream(
            SELECT_DOCUMENTS,
            {"org": organization, "start": start, "end": end},
            execution_options={"yield_per": DOCUMENTS_READ_AT_ONCE},
        )
        async for row in rows:
            document: dict[str, Any] = row.document
            yield _written(invoice_rows(document) if row.is_invoice else credit_note_rows(document))


def _written(rows: Iterable[Row]) -> str:
    written = io.StringIO()
    csv.DictWriter(written, COLUMNS, lineterminator="\r\n").writerows(rows)
    return written.getvalue()


SELECT_DOCUMENTS = text("""
    SELECT true AS is_invoice, id, document FROM invoices
    WHERE org = :org AND period_end > :start AND period_end <= :end
    UNION ALL
    SELECT false, n.id, n.document FROM credit_notes n JOIN invoices i ON i.id = n.invoice
    WHERE i.org = :org AND n.issued_at > :start AND n.issued_at <= :end
    ORDER BY is_invoice DESC, id
""")
