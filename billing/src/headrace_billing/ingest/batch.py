"""One batch of usage, one transaction: events, rollups, ledger, journals and the stream's cursor stand together.

Ingest never fails for want of credit, and never for one bad event: that one is kept aside with its reason, counts as
received, and the rest goes through. What fails for want of a database is tried again, whole, by whoever sent it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.contracts.breakage import Late
from headrace_billing.contracts.period_store import ended, keep_late
from headrace_billing.database import Database
from headrace_billing.ingest import journal_store, store, sums_store
from headrace_billing.ingest.arrival import CHARGED, PAID_AHEAD, Arrival, Usage, instant
from headrace_billing.ingest.effects import Effect, effects, rollups, used
from headrace_billing.ingest.journal_store import Journal
from headrace_billing.ingest.postings import usage_transaction
from headrace_billing.ledger import wallets
from headrace_billing.ledger.lots import Holdings, applied
from headrace_billing.ledger.store import post_all
from headrace_billing.rating import cumulative
from headrace_billing.rating.book import PriceBook
from headrace_billing.rating.store import price_books
from headrace_contracts.ingest import EventOutcome
from headrace_contracts.usage import Disposition

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: EventOutcome
    reason: str | None = None


ACCEPTED, DUPLICATE = Verdict(EventOutcome.ACCEPTED), Verdict(EventOutcome.DUPLICATE)


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
    database: Database,
    arrivals: Sequence[Arrival],
    *,
    source: str,
    since: str | None = None,
    meter: str | None = None,
) -> Ingested:
    """Commits the batch, or its halves where the database refuses something in it, down to the one that is bad.

    `since` is where the stream's cursor stood when the batch was read, if it came from there; `meter` is the outside
    meter that sent it, if one did.
    """
    try:
        async with database.begin() as session:
            return await commit(session, arrivals, source=source, since=since, meter=meter)
    except (DataError, IntegrityError, psycopg.DataError, psycopg.IntegrityError) as error:
        if len(arrivals) == 1:
            refused = error.orig if isinstance(error, DBAPIError) else error
            reason = f"refused_by_the_database: {type(refused).__name__}: {refused}"
            return await _keep_aside(database, arrivals[0], reason, source=source, since=since, meter=meter)
    half = len(arrivals) // 2
    earlier = await ingest(database, arrivals[:half], source=source, since=since, meter=meter)
    since = since and arrivals[half - 1].entry
    return earlier.then(await ingest(database, arrivals[half:], source=source, since=since, meter=meter))


async def commit(
    session: AsyncSession,
    arrivals: Sequence[Arrival],
    *,
    source: str,
    since: str | None,
    meter: str | None = None,
) -> Ingested:
    """Everything but the commit itself, which is the session's."""
    # One at a time: two transactions that each store one grade of a request would both count it.
    await session.execute(ONE_AT_A_TIME)
    usages, books, result = await _sort_out(session, arrivals, source=source)
    batch = await store.begin_batch(session, source=source, meter=meter, events=len(arrivals))
    inserted, standing = await _tell_apart(session, usages, result, source=source)
    if inserted:
        await store.insert_events(session, inserted, books, batch=batch)
        books |= await price_books(
            session, {usage.event.price_book for usage in standing.values()} - books.keys()
        )
        await _count(session, effects(inserted, standing), books, batch=batch)
    await _note_received(session, arrivals, result, since=since, numbered_by=_numbered_by(meter))
    return result


async def _sort_out(
    session: AsyncSession, arrivals: Sequence[Arrival], *, source: str
) -> tuple[dict[int, Usage], dict[str, PriceBook], Ingested]:
    """Events that can be stored, by their place among the arrivals; the others are kept aside."""
    read = [arrival.usage for arrival in arrivals if arrival.usage is not None]
    directory = await store.directory(session, [usage.event for usage in read])
    books = await price_books(session, {usage.event.price_book for usage in read})
    usages, result = {}, Ingested()
    refused = []
    for number, arrival in enumerate(arrivals):
        refusal = arrival.refusal
        if arrival.usage is not None:
            refusal = directory.refusal(arrival.usage.event) or _unpriced(arrival.usage, books)
        if refusal is None and arrival.usage is not None:
            usages[number] = arrival.usage
            result.verdicts.append(ACCEPTED)
        else:
            reason = str(refusal)
            log.error("usage_quarantined", reason=reason, source=source)
            refused.append((arrival.raw, reason))
            result.verdicts.append(Verdict(EventOutcome.QUARANTINED, reason))
    await store.quarantine(session, refused, source=source)
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


async def _tell_apart(
    session: AsyncSession, usages: Mapping[int, Usage], result: Ingested, *, source: str
) -> tuple[list[Usage], dict[str, Usage]]:
    """Those that are new, and what stands for their requests; the others turn out to be duplicates or conflicts."""
    known = await store.known(session, (usage.id for usage in usages.values()))
    earlier = {request for request, _ in known}
    inserted = []
    for number, usage in usages.items():
        if usage.event.disposition in CHARGED:
            result.posted.setdefault(usage.event.wallet, []).append(usage.id)
        identity = usage.identity
        payload_hash = known.get(identity)
        if payload_hash is None:
            known[identity] = usage.payload_hash
            inserted.append(usage)
        elif payload_hash == usage.payload_hash:
            result.verdicts[number] = DUPLICATE
        else:
            log.error("usage_conflict", request=usage.id, grade=int(usage.event.grade), source=source)
            await store.keep_conflict(session, usage, source=source)
            result.verdicts[number] = Verdict(EventOutcome.CONFLICT, "stored_with_other_content")
    counted = earlier.intersection(usage.id for usage in inserted)
    return inserted, await store.stored(session, counted) if counted else {}


async def _count(
    session: AsyncSession, found: Sequence[Effect], books: Mapping[str, PriceBook], *, batch: int
) -> None:
    if not found:
        return
    sums = rollups(found)
    sources = used(sums)
    standing = await sums_store.rated(session, {source.payer for source in sources})
    rated, charges = cumulative.rate(
        standing, cumulative.changes(sources, books), books, sources=len(sources)
    )
    owed: dict[cumulative.Payer, dict[str, int]] = {}
    latest_us: dict[cumulative.Payer, int] = {}
    for source, changed, nanos, attos in zip(
        sources, sums.values(), charges.nanos, charges.list_attos, strict=True
    ):
        changed.list_attos = attos
        payer = source.payer
        if payer.disposition in CHARGED:
            changed.charge_nanos = nanos
            by_model = owed.setdefault(payer, {})
            by_model[source.model] = by_model.get(source.model, 0) + nanos
            latest_us[payer] = max(latest_us.get(payer, 0), changed.latest_us)
    await sums_store.keep_rated(session, rated)
    await sums_store.add_rollups(session, sums)
    occurred_at = {payer: instant(at_us) for payer, at_us in latest_us.items()}
    await post_usage(session, owed, key=f"usage:{batch}", memo={"batch": str(batch)}, occurred_at=occurred_at)


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
        session, {payer.wallet for payer in owed if payer.disposition in PAID_AHEAD}
    )
    committed = {payer for payer in owed if payer.disposition is Disposition.COMMITMENT}
    late = Late(
        await ended(session, {(payer.wallet, payer.period) for payer in committed}) if committed else {}
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
            broken_nanos=late.pays(payer.wallet, payer.period, sum(owed[payer].values()))
            if payer in committed
            else 0,
            late_for=late.ended_at(payer.wallet, payer.period) if payer in committed else None,
        )
        if transaction is None:
            continue
        transactions.append(transaction)
        if payer.disposition in PAID_AHEAD:
            held[payer.wallet] = applied(held[payer.wallet], transaction.postings)
    await post_all(session, transactions)
    await keep_late(session, late.changed.values())


def _numbered_by(meter: str | None) -> journal_store.Numbering:
    return journal_store.JOURNALS if meter is None else journal_store.METERS


async def _note_received(
    session: AsyncSession,
    arrivals: Sequence[Arrival],
    result: Ingested,
    *,
    since: str | None,
    numbered_by: journal_store.Numbering,
) -> None:
    places = [arrival.place for arrival in arrivals if arrival.place is not None]
    if places:
        result.safe = await journal_store.note_received(session, places, numbered_by=numbered_by)
    if since is not None:
        to = arrivals[-1].entry
        assert to is not None, "an arrival from the stream without its entry"
        await journal_store.move_cursor(session, since=since, to=to)


async def _keep_aside(
    database: Database,
    arrival: Arrival,
    reason: str,
    *,
    source: str,
    since: str | None,
    meter: str | None,
) -> Ingested:
    reason = reason.replace("\x00", "")[:REASON_CHARACTERS_MAX]
    log.error("usage_quarantined", reason=reason, source=source)
    async with database.begin() as session:
        await session.execute(ONE_AT_A_TIME)
        await store.quarantine(session, [(arrival.raw, reason)], source=source)
        result = Ingested([Verdict(EventOutcome.QUARANTINED, reason)])
        await _note_received(session, [arrival], result, since=since, numbered_by=_numbered_by(meter))
    return result


ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('headrace.ingest'))")
