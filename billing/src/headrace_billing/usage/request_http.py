"""From a request's id to all that came of it: its trace, its events, its price, its ledger entries, its invoice lines."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.callers import Admin, Caller, CallerOf, OrgMember
from headrace_billing.errors import NotFound
from headrace_billing.money import major
from headrace_billing.parts import PartsOf
from headrace_billing.rating.book import PriceBook, PriceLine, list_attos
from headrace_billing.rating.definition import written_schedule
from headrace_billing.rating.price import TokenClass, nanos_of_attos, quantities
from headrace_billing.rating.store import price_books
from headrace_billing.usage import request_store
from headrace_billing.usage.request_store import InvoiceLine, Posted, StoredEvent
from headrace_contracts.access import KeyScope

router = APIRouter(tags=["usage"], route_class=Answering)


class EventTokens(TypedDict):
    input_uncached: int
    cache_read: int
    cache_write: int
    output_visible: int
    reasoning: int


class EventDocument(TypedDict):
    grade: str
    ending: str
    producer: str
    boot: str
    sequence: int
    came_by: str
    stored_at: str
    tokens: EventTokens


class PriceDocument(TypedDict):
    token_class: str
    price_window: str | None
    service_tier: str
    quantity: int
    price: str | Mapping[str, Any]


class PostingDocument(TypedDict):
    transaction: int
    key: str
    grade: str
    recorded_at: str


class InvoicedDocument(TypedDict):
    invoice: str
    number: str
    issued_at: str
    position: int
    token_class: str
    quantity: int
    amount_minor: int


class RequestDocument(TypedDict):
    id: str
    trace_id: str
    organization: str
    project: str
    key: str
    session: str | None
    task: str | None
    task_attempt: str | None
    end_user: str | None
    model_requested: str
    model: str
    revision: str | None
    deployment: str
    dialect: str
    ending: str
    attempts: int
    received_at: str
    duration_seconds: float
    time_to_first_token_seconds: float | None
    grade: str
    events: list[EventDocument]
    disposition: str
    price_book: str
    currency: str
    list_price: str
    prices: list[PriceDocument]
    ledger: list[PostingDocument]
    invoice_lines: list[InvoicedDocument]


@router.get("/v1/requests/{request_id}")
async def show_request(request_id: UUID, parts: PartsOf, caller: CallerOf) -> RequestDocument:
    """What is known of a request by the id in its answer's `x-request-id`, for whoever's project it was.

    An invoice line counts every request of its kind in its period: `quantity` and `amount` are the whole line's.
    """
    async with parts.database.snapshot() as session:
        events = await request_store.events_of(session, request_id)
        if not events or not _may_see(caller, events[-1]):
            raise NotFound("request", str(request_id))
        counted = events[-1]
        books = await price_books(session, {counted.event.price_book})
        lines = _lines(counted, books)
        postings = await request_store.postings_of(session, events)
        invoiced = await request_store.invoice_lines_of(session, counted, list(lines.values()))
        return _document(events, books[counted.event.price_book], lines, postings, invoiced)


def _may_see(caller: Caller, stored: StoredEvent) -> bool:
    if isinstance(caller, Admin):
        return True
    if isinstance(caller, OrgMember):
        return caller.org == stored.event.org
    caller.require(KeyScope.USAGE_READ)
    return (caller.org, caller.project) == (stored.event.org, stored.event.project)


def _lines(stored: StoredEvent, books: Mapping[str, PriceBook]) -> dict[TokenClass, PriceLine]:
    """Those that price its tokens, by class."""
    event = stored.event
    prices = books[event.price_book].models[event.model_served]
    return {
        token_class: prices.line(token_class, stored.price_window, event.service_tier)
        for token_class, quantity in quantities(event.tokens).items()
        if quantity
    }


def _document(
    events: list[StoredEvent],
    book: PriceBook,
    lines: Mapping[TokenClass, PriceLine],
    postings: list[Posted],
    invoiced: list[InvoiceLine],
) -> RequestDocument:
    stored = events[-1]
    event = stored.event
    amount = list_attos(
        event.tokens, book, event.model_served, at=stored.received_at, tier=event.service_tier
    )
    return {
        "id": event.id,
        "trace_id": event.trace_id,
        "organization": event.org,
        "project": event.project,
        "key": event.key,
        "session": event.session,
        "task": event.task,
        "task_attempt": event.task_attempt,
        "end_user": event.end_user,
        "model_requested": event.model_requested,
        "model": event.model_served,
        "revision": event.revision,
        "deployment": event.deployment,
        "dialect": event.dialect,
        "ending": event.ending,
        "attempts": event.attempts,
        "received_at": stored.received_at.isoformat(),
        "duration_seconds": _seconds(event.finished_at_us - event.received_at_us),
        "time_to_first_token_seconds": None
        if event.first_token_at_us is None
        else _seconds(event.first_token_at_us - event.received_at_us),
        "grade": event.grade.name.lower(),
        "events": [_event(one) for one in events],
        "disposition": event.disposition,
        "price_book": event.price_book,
        "currency": event.currency,
        "list_price": major(nanos_of_attos(amount)),
        "prices": [
            _price(book, event.model_served, line, quantities(event.tokens)[token_class])
            for token_class, line in lines.items()
        ],
        "ledger": [
            {
                "transaction": posted.id,
                "key": posted.key,
                "grade": posted.grade.name.lower(),
                "recorded_at": posted.recorded_at.isoformat(),
            }
            for posted in postings
        ],
        "invoice_lines": [
            {
                "invoice": line.invoice,
                "number": line.number,
                "issued_at": line.issued_at.isoformat(),
                "position": line.position,
                "token_class": line.token_class,
                "quantity": line.quantity,
                "amount_minor": line.amount_minor,
            }
            for line in invoiced
        ],
    }


def _event(stored: StoredEvent) -> EventDocument:
    event = stored.event
    return {
        "grade": event.grade.name.lower(),
        "ending": event.ending,
        "producer": event.producer,
        "boot": event.boot,
        "sequence": event.sequence,
        "came_by": stored.source,
        "stored_at": stored.stored_at.isoformat(),
        "tokens": {
            "input_uncached": event.tokens.input_uncached,
            "cache_read": event.tokens.cache_read,
            "cache_write": event.tokens.cache_write,
            "output_visible": event.tokens.output_visible,
            "reasoning": event.tokens.reasoning,
        },
    }


def _price(book: PriceBook, model: str, line: PriceLine, quantity: int) -> PriceDocument:
    return {
        "token_class": line.token_class,
        "price_window": line.window or None,
        "service_tier": line.service_tier,
        "quantity": quantity,
        "price": written_schedule(book.schedule(model, line)),
    }


def _seconds(microseconds: int) -> float:
    return microseconds / 1_000_000
