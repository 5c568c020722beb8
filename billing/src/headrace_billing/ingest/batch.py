"""One batch of usage, one transaction: events, rollups, ledger, journals and the stream's cursor stand together.

Ingest never fails for want of credit, and never for one bad event: that one is kept aside with its reason, counts as
received, and the rest goes through. What fails for want of a database is tried again, whole, by whoever sent it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.ingest import journal_store, store, sums_store
from headrace_billing.ingest.arrival import CHARGED, Arrival, Usage
from headrace_billing.ingest.effects import Effect, effects, rollups
from headrace_billing.ingest.journal_store import Journal
from headrace_billing.ingest.postings import usage_transaction
from headrace_billing.ledger import wallets
from headrace_billing.ledger.lots import Holdings, applied
from headrace_billing.ledger.store import post_all
from headrace_billing.rating import cumulative
from headrace_billing.rating.book import PriceBook
from headrace_billing.rating.store import price_books
from headrace_contracts.ingest import EventOutcome
from headrace_contracts.usage import Disposition, Grade

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: EventOutcome
    reason: str | None = None


@dataclass(slots=True)
class Ingested:
    """What became of each arrival, in order, and what others have to be told of it."""

    verdicts: list[Verdict] = field(default_factory=list)
    safe: dict[Journal, int] = field(default_factory=dict)
    posted: dict[str, list[str]] = field(default_factory=dict)
    """Wallet → requests that the books account for now, whether they did before or not."""

    def then(self, later: "Ingested") -> "Ingested":
        posted = {wallet: list(ids) for wallet, ids in self.posted.items()}
        for wallet, ids in later.posted.items():
            posted.setdefault(wallet, []).extend(ids)
        return Ingested([*self.verdicts, *later.verdicts], {**self.safe, **later.safe}, posted)


async def ingest(
    database: Database, arrivals: Sequence[Arrival], *, source: str, since: str | None = None
) -> Ingested:
    """Commits the batch, or its halves where the database refuses something in it, down to the one that is bad.

    `since` is where the stream's cursor stood when the batch was read, if it came from there.
    """
    try:
        async with database.begin() as session:
            return await commit(session, arrivals, source=source, since=since)
    except (DataError, IntegrityError) as error:
        if len(arrivals) == 1:
            reason = f"refused_by_the_database: {type(error.orig).__name__}: {error.orig}"
            return await _keep_aside(database, arrivals[0], reason, source=source, since=since)
    half = len(arrivals) // 2
    earlier = await ingest(database, arrivals[:half], source=source, since=since)
    since = since and arrivals[half - 1].entry
    return earlier.then(await ingest(database, arrivals[half:], source=source, since=since))


async def commit(
    session: AsyncSession, arrivals: Sequence[Arrival], *, source: str, since: str | None
) -> Ingested:
    """Everything but the commit itself, which is the session's."""
    # One at a time: two transactions that each store one grade of a request would both count it.
    await session.execute(ONE_AT_A_TIME)
    usages, books, result = await _sort_out(session, arrivals, source=source)
    batch = await store.begin_batch(session, source=source, events=len(arrivals))
    inserted = await _insert(session, usages, books, result, batch=batch, source=source)
    standing = {
        usage.id: usage
        for usage in await store.stored_before(session, [usage.id for usage in inserted], batch=batch)
    }
    books |= await price_books(session, {u.event.price_book for u in standing.values()} - books.keys())
    await _count(session, effects(inserted, standing), books, batch=batch)
    await _note_received(session, arrivals, result, since=since)
    return result


async def _sort_out(
    session: AsyncSession, arrivals: Sequence[Arrival], *, source: str
) -> tuple[dict[int, Usage], dict[str, PriceBook], Ingested]:
    """Events that can be stored, by their place among the arrivals; the others are kept aside."""
    read = [arrival.usage for arrival in arrivals if arrival.usage is not None]
    directory = await store.directory(session, [usage.event for usage in read])
    books = await price_books(session, {usage.event.price_book for usage in read})
    usages, result = {}, Ingested()
    for number, arrival in enumerate(arrivals):
        refusal = arrival.refusal
        if arrival.usage is not None:
            refusal = directory.refusal(arrival.usage.event) or _unpriced(arrival.usage, books)
        if refusal is None and arrival.usage is not None:
            usages[number] = arrival.usage
            result.verdicts.append(Verdict(EventOutcome.ACCEPTED))
        else:
            reason = str(refusal)
            log.error("usage_quarantined", reason=reason, source=source)
            await store.quarantine(session, arrival.raw, reason=reason, source=source)
            result.verdicts.append(Verdict(EventOutcome.QUARANTINED, reason))
    return usages, books, result


def _unpriced(usage: Usage, books: Mapping[str, PriceBook]) -> str | None:
    """Why the event can't be rated."""
    event = usage.event
    book = books.get(event.price_book)
    if book is None:
        return "unknown_price_book"
    if book.currency != event.currency:
        return "price_book_of_another_currency"
    if book.org not in (None, event.org):
        return "price_book_of_another_organization"
    if event.model_served not in book.models:
        return "model_not_in_price_book"
    return None


async def _insert(
    session: AsyncSession,
    usages: dict[int, Usage],
    books: Mapping[str, PriceBook],
    result: Ingested,
    *,
    batch: int,
    source: str,
) -> list[Usage]:
    """Those that are new; the others turn out to be duplicates or conflicts."""
    first: dict[tuple[UUID, Grade], int] = {}
    for number, usage in usages.items():
        first.setdefault(usage.identity, number)
    candidates = sorted((usages[n] for n in first.values()), key=lambda usage: usage.identity)
    fresh = await store.insert_events(session, candidates, books, batch=batch)
    hashes = await store.stored_hashes(session, {usage.id for usage in usages.values()})
    inserted = []
    for number, usage in usages.items():
        if usage.event.disposition in CHARGED:
            result.posted.setdefault(usage.event.wallet, []).append(str(usage.id))
        if usage.identity in fresh and first[usage.identity] == number:
            inserted.append(usage)
        elif hashes[usage.identity] == usage.payload_hash:
            result.verdicts[number] = Verdict(EventOutcome.DUPLICATE)
        else:
            log.error("usage_conflict", request=str(usage.id), grade=int(usage.event.grade), source=source)
            await store.keep_conflict(session, usage, source=source)
            result.verdicts[number] = Verdict(EventOutcome.CONFLICT, "stored_with_other_content")
    return inserted


async def _count(
    session: AsyncSession, found: Sequence[Effect], books: dict[str, PriceBook], *, batch: int
) -> None:
    if not found:
        return
    changed = cumulative.changes(((e.usage.event, e.usage.received_at, e.sign) for e in found), books)
    standing = await sums_store.rated(session, {change.group.payer for change in changed})
    rated, charges = cumulative.rate(standing, changed, books)
    await sums_store.keep_rated(session, rated)
    await sums_store.add_rollups(session, rollups(found, charges, books))
    owed: dict[cumulative.Payer, dict[str, int]] = {}
    for place, nanos in charges.items():
        usage = found[place].usage
        if usage.event.disposition in CHARGED:
            by_model = owed.setdefault(cumulative.payer_of(usage.event, usage.received_at), {})
            by_model[usage.event.model_served] = by_model.get(usage.event.model_served, 0) + nanos
    latest: dict[cumulative.Payer, datetime] = {}
    for effect in found:
        payer = cumulative.payer_of(effect.usage.event, effect.usage.received_at)
        latest[payer] = max(latest.get(payer, effect.usage.received_at), effect.usage.received_at)
    await post_usage(session, owed, key=f"usage:{batch}", memo={"batch": str(batch)}, occurred_at=latest)


async def post_usage(
    session: AsyncSession,
    owed: Mapping[cumulative.Payer, Mapping[str, int]],
    *,
    key: str,
    memo: Mapping[str, str],
    occurred_at: Mapping[cumulative.Payer, datetime],
) -> None:
    """Posts what each payer owes for each model, in nano-units; may be negative."""
    held: dict[str, Holdings] = await wallets.lock(
        session, {payer.wallet for payer in owed if payer.disposition is Disposition.PREPAID}
    )
    transactions = []
    for payer in sorted(owed):
        transaction = usage_transaction(
            payer,
            owed[payer],
            key=key,
            memo=memo,
            occurred_at=occurred_at[payer],
            holdings=held.get(payer.wallet),
        )
        if transaction is None:
            continue
        transactions.append(transaction)
        if payer.disposition is Disposition.PREPAID:
            held[payer.wallet] = applied(held[payer.wallet], transaction.postings)
    await post_all(session, transactions)


async def _note_received(
    session: AsyncSession, arrivals: Sequence[Arrival], result: Ingested, *, since: str | None
) -> None:
    places = [arrival.place for arrival in arrivals if arrival.place is not None]
    result.safe = await journal_store.note_received(session, places)
    if since is not None:
        to = arrivals[-1].entry
        assert to is not None, "an arrival from the stream without its entry"
        await journal_store.move_cursor(session, since=since, to=to)


async def _keep_aside(
    database: Database, arrival: Arrival, reason: str, *, source: str, since: str | None
) -> Ingested:
    reason = reason.replace("\x00", "")[:REASON_CHARACTERS_MAX]
    log.error("usage_quarantined", reason=reason, source=source)
    async with database.begin() as session:
        await session.execute(ONE_AT_A_TIME)
        await store.quarantine(session, arrival.raw, reason=reason, source=source)
        result = Ingested([Verdict(EventOutcome.QUARANTINED, reason)])
        await _note_received(session, [arrival], result, since=since)
    return result


ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('headrace.ingest'))")
