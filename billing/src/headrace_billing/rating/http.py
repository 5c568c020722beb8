"""The admin's routes for price books."""

from typing import Any

import structlog
from fastapi import APIRouter

from headrace_billing.accounts import store as accounts
from headrace_billing.bodies import Currency, Id, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.money import currency_of
from headrace_billing.parts import PartsOf
from headrace_billing.rating import publishing, store
from headrace_billing.rating.bodies import NewPriceBook, draft_of, effective
from headrace_billing.rating.definition import definition_of, written_windows
from headrace_billing.rating.jobs import put_due_into_force
from headrace_billing.rating.store import Published
from headrace_billing.valkey import ValkeyError

log = structlog.get_logger()
router = APIRouter(tags=["prices"], dependencies=[AdminOnly])


@router.post("/v1/price-books", status_code=201)
async def publish_price_book(
    body: NewPriceBook, parts: PartsOf, idempotency_key: IdempotencyKey
) -> dict[str, Any]:
    """The whole list of a currency, or what one organization pays otherwise.

    In force from `effective_at` for requests that are admitted from then on; what was admitted before keeps its price.
    """
    currency_of(body.currency)
    draft, at = draft_of(body), parts.now()
    async with parts.database.begin() as session:
        answer = await recall(
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
) -> dict[str, Any]:
    async with parts.database.begin() as session:
        found = await store.published(
            session, currency=currency, org=organization, after=page.begins_after, limit=page.limit
        )
    return page_of([_document(one) for one in found], page)


def _document(published: Published) -> dict[str, Any]:
    book = published.book
    return {
        "id": book.id,
        "currency": book.currency,
        "organization": published.org,
        "base": published.base,
        "version": published.version,
        "published_at": published.published_at.isoformat(),
        "effective_at": published.effective_at.isoformat(),
        "windows": written_windows(book.windows),
        "models": {model: definition_of(prices) for model, prices in book.models.items()},
    }
