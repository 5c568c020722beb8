"""The admin's routes for price books."""

from typing import Annotated, Any

import structlog
from fastapi import APIRouter
from pydantic import Field

from headrace_billing.accounts import outbox
from headrace_billing.bodies import Amount, Body, Currency, ModelName, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.money import currency_of
from headrace_billing.parts import PartsOf
from headrace_billing.rating import store
from headrace_billing.rating.price import Prices, TokenClass, parse_prices, price_text
from headrace_billing.rating.store import Published
from headrace_billing.valkey import ValkeyError

MODELS_MAX = 200

log = structlog.get_logger()
router = APIRouter(tags=["prices"], dependencies=[AdminOnly])


class PricesBody(Body):
    """Per 1,000,000 tokens, as decimal strings of at most 12 places."""

    input_uncached: Amount
    cache_read: Amount
    cache_write: Amount
    output: Amount

    def prices(self) -> Prices:
        return parse_prices((kind, getattr(self, kind.value)) for kind in TokenClass)


class NewPriceBook(Body):
    currency: Currency
    models: Annotated[dict[ModelName, PricesBody], Field(min_length=1, max_length=MODELS_MAX)]


@router.post("/v1/price-books", status_code=201)
async def publish_price_book(
    body: NewPriceBook, parts: PartsOf, idempotency_key: IdempotencyKey
) -> dict[str, Any]:
    """The whole list of a currency; in force at once for requests that are admitted from then on."""
    currency = currency_of(body.currency)
    models = {model: prices.prices() for model, prices in body.models.items()}
    async with parts.database.begin() as session:
        answer = await recall(
            session, scope="price-books", key=idempotency_key, request=body.model_dump(mode="json")
        )
        if answer is not None:
            return answer
        published, record = await store.publish(session, currency=currency, models=models, at=parts.now())
        answer = _document(published)
        await remember(session, scope="price-books", key=idempotency_key, answer=answer)
    try:
        await outbox.push(parts.database, parts.valkey, [record])
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", record=record, error=type(error).__name__)
    return answer


@router.get("/v1/price-books")
async def list_price_books(parts: PartsOf, page: PageOf, currency: Currency | None = None) -> dict[str, Any]:
    async with parts.database.begin() as session:
        found = await store.published(session, currency=currency, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


def _document(published: Published) -> dict[str, Any]:
    return {
        "id": published.book.id,
        "currency": published.book.currency,
        "version": published.version,
        "published_at": published.published_at.isoformat(),
        "models": {
            model: {kind.value: price_text(price) for kind, price in prices.by_class.items()}
            for model, prices in published.book.models.items()
        },
    }
