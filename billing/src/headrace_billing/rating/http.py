"""The admin's routes for price books."""

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import APIRouter
from typing_extensions import TypedDict

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import Currency, Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.intervals import interval
from headrace_billing.money import currency_of, major
from headrace_billing.parts import PartsOf
from headrace_billing.rating import preview_store, publishing, store
from headrace_billing.rating.bodies import NewPriceBook, PricePreview, draft_of, effective
from headrace_billing.rating.definition import definition_of, written_windows
from headrace_billing.rating.jobs import put_due_into_force
from headrace_billing.rating.preview import preview
from headrace_billing.rating.store import Published
from headrace_billing.valkey import ValkeyError

# Those whose bill would change most come first.
CUSTOMERS_MAX = 1000

log = structlog.get_logger()
router = APIRouter(tags=["prices"], dependencies=[AdminOnly], route_class=Answering)


class PriceBookDocument(TypedDict):
    id: str
    currency: str
    organization: str | None
    base: str | None
    version: int
    published_at: str
    effective_at: str
    windows: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]


class DifferenceDocument(TypedDict):
    billed: str
    would_bill: str
    difference: str


class OfCustomer(DifferenceDocument):
    organization: str


class PreviewDocument(DifferenceDocument):
    currency: str
    start: str
    end: str
    not_priced: list[str]
    customers: list[OfCustomer]
    customers_left_off: int


@router.post("/v1/price-books", status_code=201)
async def publish_price_book(
    body: NewPriceBook, parts: PartsOf, idempotency_key: IdempotencyKey
) -> PriceBookDocument:
    """The whole list of a currency, or what one organization pays otherwise.

    In force from `effective_at` for requests that are admitted from then on; what was admitted before keeps its price.
    """
    currency_of(body.currency)
    draft, at = draft_of(body), parts.now()
    async with parts.database.begin() as session:
        answer: PriceBookDocument | None = await recall(
            session, scope="price-books", key=idempotency_key, request=body.model_dump(mode="json")
        )
        if answer is not None:
            return answer
        await publishing.lock(session)
        common: dict[str, Any] = {
            "at": at,
            "effective_at": effective(body, at),
            "large_changes": body.confirm_large_changes,
        }
        if draft.org is None:
            published = await publishing.publish(
                session,
                currency=draft.currency,
                models=draft.overrides.models,
                windows=draft.windows,
                **common,
            )
        else:
            await accounts.organization(session, draft.org)
            published = await publishing.publish_overrides(
                session, currency=draft.currency, org=draft.org, overrides=draft.overrides, **common
            )
        written = await put_due_into_force(session, at=at)
        answer = _document(published)
        await remember(session, scope="price-books", key=idempotency_key, answer=answer)
    try:
        await written.push(parts.database, parts.valkey)
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", records=written.cards, error=type(error).__name__)
    return answer


@router.get("/v1/price-books")
async def list_price_books(
    parts: PartsOf, page: PageOf, currency: Currency | None = None, organization: Id | None = None
) -> Listed[PriceBookDocument]:
    async with parts.database.begin() as session:
        found = await store.published(
            session, currency=currency, org=organization, after=page.begins_after, limit=page.limit
        )
    return page_of([_document(one) for one in found], page)


@router.post("/v1/price-previews")
async def preview_prices(body: PricePreview, parts: PartsOf) -> PreviewDocument:
    """What the list would have billed for [start, end), by customer and in sum. Nothing is posted or published.

    Each month's quantities are rated as if the list had held from its first hour here; months that lie in the time as a
    whole are rated as closed. So that nothing is guessed, the time begins and ends on whole hours.
    """
    currency_of(body.currency)
    start, end = interval(body.start, body.end)
    draft = draft_of(body)
    async with parts.database.snapshot() as session:
        if draft.org is not None:
            await accounts.organization(session, draft.org)
        general, own = await preview_store.books(session, draft, at=parts.now())
        used = await preview_store.used(session, currency=draft.currency, org=draft.org, start=start, end=end)
        found = preview(used, general=general, own=own, whole_months=preview_store.whole_months(start, end))
    bills = sorted(
        found.by_org.items(),
        key=lambda item: (-abs(item[1].would_bill_nanos - item[1].billed_nanos), item[0]),
    )
    billed = sum(bill.billed_nanos for _, bill in bills)
    would_bill = sum(bill.would_bill_nanos for _, bill in bills)
    return {
        "currency": draft.currency,
        "start": start.isoformat(),
        "end": end.isoformat(),
        **_difference(billed, would_bill),
        "not_priced": sorted(found.not_priced),
        "customers": [
            {"organization": org, **_difference(bill.billed_nanos, bill.would_bill_nanos)}
            for org, bill in bills[:CUSTOMERS_MAX]
        ],
        "customers_left_off": max(len(bills) - CUSTOMERS_MAX, 0),
    }


def _difference(billed_nanos: int, would_bill_nanos: int) -> DifferenceDocument:
    return {
        "billed": major(billed_nanos),
        "would_bill": major(would_bill_nanos),
        "difference": major(would_bill_nanos - billed_nanos),
    }


def _document(published: Published) -> PriceBookDocument:
    book = published.book
    return {
        "id": book.id,
        "currency": book.currency,
        "organization": book.org,
        "base": published.base,
        "version": published.version,
        "published_at": published.published_at.isoformat(),
        "effective_at": published.effective_at.isoformat(),
        "windows": written_windows(book.windows),
        "models": {model: definition_of(prices) for model, prices in book.models.items()},
    }
