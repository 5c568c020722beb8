"""Booking what an outside meter reports: by the same transaction as gateways' usage, item by item."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.ingest import store as usage_store
from headrace_billing.ingest.arrival import Arrival, Identity, Place, Usage, instant
from headrace_billing.ingest.batch import Ingested, Verdict, ingest
from headrace_billing.ingest.effects import NO_KEY
from headrace_billing.meters import store
from headrace_billing.meters.backfill import out_of_time, too_late
from headrace_billing.meters.meter import Meter
from headrace_billing.meters.reading import Item, ItemCode, Reading, Refused
from headrace_billing.meters.store import ProjectBooks
from headrace_billing.rating.store import Asked, ids_in_force, price_books
from headrace_contracts.usage import Dialect, Ending, Grade, TokenCounts, UsageEvent, encode_event

SOURCE = "meter"


@dataclass(frozen=True, slots=True)
class Reported:
    outcomes: list[Verdict | Refused]
    """One an item, in order."""
    ingested: Ingested


async def report(database: Database, meter: Meter, items: Sequence[Item], *, now: datetime) -> Reported:
    """Refused items leave nothing behind; the others are booked as one batch, and what the books refuse kept aside."""
    async with database.begin() as session:
        resolved = await _resolve(session, meter, items, now=now)
    arrivals = [one for one in resolved if isinstance(one, Arrival)]
    ingested = Ingested()
    if arrivals:
        ingested = await ingest(database, arrivals, source=SOURCE, meter=meter.id)
    verdicts = iter(ingested.verdicts)
    outcomes = [next(verdicts) if isinstance(one, Arrival) else one for one in resolved]
    return Reported(outcomes, ingested)


async def _resolve(
    session: AsyncSession, meter: Meter, items: Sequence[Item], *, now: datetime
) -> list[Arrival | Refused]:
    readings = [item.found for item in items if isinstance(item.found, Reading)]
    projects = await store.project_books(
        session, (reading.used.project for reading in readings), organization=meter.organization
    )
    keys = await store.projects_of_keys(
        session, (reading.used.key for reading in readings if reading.used.key is not None)
    )
    known = await usage_store.known(session, (reading.request for reading in readings))
    open_now = await store.open_backfills(session, meter.id, at=now)
    in_force = await ids_in_force(
        session,
        (
            _asked(reading, books)
            for reading in readings
            if (books := projects.get(reading.used.project)) is not None
        ),
    )
    priced = await price_books(session, set(in_force.values()))

    def one(found: Reading | Refused) -> Arrival | Refused:
        if isinstance(found, Refused):
            return found
        at = instant(found.time_us)
        refused = out_of_time(at, now=now)
        if refused is None and Identity(found.request, Grade.FINAL) not in known:
            refused = too_late(at, open_now, now=now)
        if refused is not None:
            return refused
        books = projects.get(found.used.project)
        if books is None:
            return Refused(
                ItemCode.UNKNOWN_PROJECT, f"data.project: no {found.used.project!r} to report for."
            )
        if found.used.key is not None and keys.get(found.used.key) != found.used.project:
            return Refused(ItemCode.UNKNOWN_KEY, f"data.key: no key {found.used.key!r} of that project.")
        book = in_force.get(_asked(found, books))
        if book is None or found.used.model not in priced[book].models:
            return Refused(
                ItemCode.NOT_PRICED,
                f"data.model: {found.used.model!r} had no price in {books.currency} then.",
            )
        return _arrival(found, meter, books, price_book=book)

    return [one(item.found) for item in items]


def _asked(reading: Reading, books: ProjectBooks) -> Asked:
    return Asked(books.currency, books.organization, instant(reading.time_us))


def _arrival(reading: Reading, meter: Meter, books: ProjectBooks, *, price_book: str) -> Arrival:
    used = reading.used
    event = UsageEvent(
        id=reading.request,
        grade=Grade.FINAL,
        producer=meter.id,
        boot=reading.source,
        sequence=reading.sequence,
        org=books.organization,
        project=used.project,
        key=used.key or NO_KEY,
        wallet=books.wallet,
        currency=books.currency,
        deployment=meter.id,
        model_requested=used.model,
        model_served=used.model,
        dialect=Dialect.OUTSIDE,
        session=used.session,
        received_at_us=reading.time_us,
        finished_at_us=reading.time_us,
        ending=Ending.COMPLETED,
        tokens=TokenCounts(
            input_uncached=used.tokens.input_uncached,
            cache_read=used.tokens.cache_read,
            cache_write=used.tokens.cache_write,
            output_visible=used.tokens.output_visible,
            reasoning=used.tokens.reasoning,
        ),
        price_book=price_book,
        disposition=books.disposition,
        service_tier=used.service_tier,
    )
    place = Place(meter.id, reading.source, reading.sequence) if reading.sequence else None
    # By what the meter said, and not by what follows from it here, an event is known again.
    # Kept aside it would be as usage of ours is, so that reconciliation finds whose it was and that it came again.
    return Arrival(encode_event(event), Usage(event, reading.payload_hash), None, place)
