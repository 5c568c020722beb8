"""The seller's routes for cost books, and for margins that name the ones they go by."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.bodies import PAGE_MAX, Amount, Body, Currency, Listed, ModelName, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.costs import store
from headrace_billing.costs.cost_book import CostBook, CostBookInvalid, CostMethod, Margin, MarginBy
from headrace_billing.idempotency import recall, remember
from headrace_billing.intervals import interval, utc
from headrace_billing.money import currency_of, major
from headrace_billing.parts import PartsOf
from headrace_billing.rating.price import TokenClass, parse_price, price_text

MODELS_MAX = 200

router = APIRouter(tags=["costs"], dependencies=[AdminOnly], route_class=Answering)


class CostsBody(Body):
    """Per 1,000,000 tokens, as decimal strings of at most 12 places."""

    input_uncached: Amount
    cache_read: Amount
    cache_write: Amount
    output: Amount


class CostBookDocument(TypedDict):
    id: str
    currency: str
    version: int
    published_at: str
    effective_at: str
    models: Mapping[str, Mapping[str, str]]


class MarginDocument(TypedDict):
    model: NotRequired[str]
    organization: NotRequired[str]
    requests: int
    tokens: int
    revenue: str
    list_price: str
    cost: str
    margin: str
    tokens_without_cost: int


class MarginsDocument(TypedDict):
    currency: str
    start: str
    end: str
    as_of: str
    method: CostMethod
    cost_books: Sequence[str]
    margins: list[MarginDocument]


class NewCostBook(Body):
    currency: Currency
    effective_at: AwareDatetime
    """A whole hour, which may lie in the past: margins of that time are then told anew, by this version."""
    models: Annotated[dict[ModelName, CostsBody], Field(min_length=1, max_length=MODELS_MAX)]


@router.post("/v1/cost-books", status_code=201)
async def publish_cost_book(
    body: NewCostBook, parts: PartsOf, idempotency_key: IdempotencyKey
) -> CostBookDocument:
    """What a token of each model costs from `effective_at` on. Nothing that was billed depends on it."""
    currency_of(body.currency)
    effective_at = utc(body.effective_at)
    if effective_at != effective_at.replace(minute=0, second=0, microsecond=0):
        raise CostBookInvalid("effective_at must be a whole hour of UTC: usage is kept by the hour.")
    models = {
        model: {kind: parse_price(getattr(costs, kind.value)) for kind in TokenClass}
        for model, costs in body.models.items()
    }
    once: dict[str, Any] = {"scope": "cost-books", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer: CostBookDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            book = await store.publish(
                session, currency=body.currency, models=models, at=parts.now(), effective_at=effective_at
            )
            answer = _document(book)
            await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/cost-books")
async def list_cost_books(
    parts: PartsOf, page: PageOf, currency: Currency | None = None
) -> Listed[CostBookDocument]:
    async with parts.database.begin() as session:
        found = await store.published(session, currency=currency, after=page.begins_after, limit=page.limit)
    return page_of([_document(book) for book in found], page)


@router.get("/v1/margins")
async def show_margins(
    *,
    parts: PartsOf,
    currency: Currency,
    by: MarginBy,
    start: AwareDatetime,
    end: AwareDatetime,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
) -> MarginsDocument:
    """Revenue less cost of [start, end), by model or organization, the least margin first."""
    since, until = interval(start, end)
    async with parts.database.snapshot() as session:
        found, books = await store.margins(
            session, by=by, currency=currency_of(currency), start=since, end=until, limit=limit
        )
    return {
        "currency": currency,
        "start": since.isoformat(),
        "end": until.isoformat(),
        "as_of": parts.now().isoformat(),
        "method": CostMethod.PER_TOKEN,
        "cost_books": books,
        "margins": [_margin(margin, by) for margin in found],
    }


def _margin(margin: Margin, by: MarginBy) -> MarginDocument:
    of: MarginDocument = {
        "requests": margin.requests,
        "tokens": margin.tokens,
        "revenue": major(margin.revenue_nanos),
        "list_price": major(margin.list_nanos),
        "cost": major(margin.cost_nanos),
        "margin": major(margin.margin_nanos),
        "tokens_without_cost": margin.tokens_without_cost,
    }
    of["model" if by is MarginBy.MODEL else "organization"] = margin.of
    return of


def _document(book: CostBook) -> CostBookDocument:
    return {
        "id": book.id,
        "currency": book.currency,
        "version": book.version,
        "published_at": book.published_at.isoformat(),
        "effective_at": book.effective_at.isoformat(),
        "models": {
            model: {kind.value: price_text(cost) for kind, cost in costs.items()}
            for model, costs in book.models.items()
        },
    }
