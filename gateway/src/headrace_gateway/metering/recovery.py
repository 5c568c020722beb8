"""Settles what dead processes left: their requests from the in-flight table, their journals to billing.

What must stay true: a request gets one final event, so a slot that is noted as journalled, or whose id stands in any
journal of this state folder, gets no second one, but only the settlement that Valkey may lack; and nothing is removed
before what it holds is safe elsewhere: a table when its events are on the disk in a journal and Valkey has counted them,
a segment when billing has acknowledged it.
"""

import asyncio
import mmap
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from headrace_contracts import channels
from headrace_contracts.usage import Ending, TokenCounts, decode_event
from headrace_gateway.call import KeptAnswer
from headrace_gateway.limits.idempotency import outcome_of
from headrace_gateway.limits.pricing import cost_micros
from headrace_gateway.limits.request_ids import ClaimedId, RequestIds
from headrace_gateway.metering import producers
from headrace_gateway.metering.counts import NONE, read_counts
from headrace_gateway.metering.events import final_event, id_of, id_of_event, revision_of
from headrace_gateway.metering.inflight import Inflight, map_table, note_journalled, read_table
from headrace_gateway.metering.journal import Journal
from headrace_gateway.metering.lease import NOT_SERVED, decode_claim, decode_head, fragment_of
from headrace_gateway.metering.segments import read_records, trim
from headrace_gateway.metering.settlement import Settler

log = structlog.get_logger()

RESERVE_RETRY_SECONDS = 0.2


@dataclass
class DeadJournal:
    """A journal that nobody writes any more, kept until billing has it all."""

    name: str
    folder: Path
    segments: list[Path]
    last_sequence: int
    size_bytes: int
    acknowledged: int = 0

    def overdue(self, *, age_seconds: float) -> int:  # noqa: ARG002 - all of it is old
        return self.last_sequence if self.last_sequence > self.acknowledged else 0

    def acknowledge(self, sequence: int) -> None:
        self.acknowledged = max(self.acknowledged, sequence)
        if self.acknowledged >= self.last_sequence:
            self.remove()

    def remove(self) -> None:
        for path in self.segments:
            path.unlink(missing_ok=True)


@dataclass
class DeadTable:
    """What a dead process's requests had come to, kept until each is journalled and settled."""

    path: Path
    slots: dict[int, Inflight]
    """Not settled yet."""
    events: dict[int, bytes]
    """What a journal has of them, by slot."""
    content: mmap.mmap | None
    """To note in; null where no slot was open."""
    journalled: bool = False
    removed: bool = False

    def note(self, slot: int, ending: Ending) -> None:
        """That a journal has its event."""
        assert self.content is not None, self.path
        note_journalled(self.content, slot, ending)

    def settled(self, slot: int) -> None:
        self.slots.pop(slot)
        self.end_if_done()

    def end_if_done(self) -> None:
        if self.journalled and not self.slots:
            self.path.unlink(missing_ok=True)
            self.removed = True


class Recovery:
    def __init__(
        self,
        claim: producers.Claim,
        state: Path,
        *,
        journal: Journal,
        settler: Settler,
        request_ids: RequestIds,
    ) -> None:
        self._own = claim
        self._request_ids = request_ids
        self._state = state
        self._journal = journal
        self._settler = settler
        self._own_done = False
        self._others: list[producers.Claim] = []
        self._dead: list[DeadJournal] = []
        self._tables: list[DeadTable] = []

    @property
    def dead(self) -> list[DeadJournal]:
        """The journals left behind that billing has not acknowledged in full."""
        dead = [journal for journal in self._dead if journal.acknowledged < journal.last_sequence]
        if len(dead) < len(self._dead):
            self._dead = dead
            self._note_dead()
        return self._dead

    async def run(self) -> None:
        """Takes over what is there to take; called at the start and every now and then."""
        orphans = await asyncio.to_thread(producers.claim_orphans, self._state)
        self._others += orphans
        await self._take_over(orphans if self._own_done else [self._own, *orphans])
        self._own_done = True
        self.release()

    def release(self, *, everything: bool = False) -> None:
        """Unlocks foreign folders that are done with."""
        self._tables = [table for table in self._tables if not table.removed]
        busy = {journal.folder for journal in self.dead} | {table.path.parent for table in self._tables}
        if everything:
            busy = set()
        for claim in [claim for claim in self._others if claim.folder not in busy]:
            self._others.remove(claim)
            claim.release()

    async def _take_over(self, claims: Sequence[producers.Claim]) -> None:
        # A round that broke half-way is followed by another.
        known = {table.path for table in self._tables} | {
            path for dead in self._dead for path in dead.segments
        }
        left: list[DeadTable] = []
        segments: dict[producers.Claim, list[Path]] = {}
        for claim in claims:
            boot = self._journal.boot if claim is self._own else None
            found = await asyncio.to_thread(producers.left_behind, claim.folder, boot=boot)
            paths = [path for path in found if path not in known]
            tables = [path for path in paths if path.suffix == producers.TABLE_SUFFIX]
            segments[claim] = [path for path in paths if path.suffix == producers.SEGMENT_SUFFIX]
            left += [await asyncio.to_thread(_read, table, self._state) for table in tables]
        # All tables were read before any journal may go, whoever's it is: afterwards nobody could tell which of the
        # requests stood in it.
        for claim, paths in segments.items():
            self._dead += await asyncio.to_thread(_dead_journals, claim, paths)
        self._note_dead()
        for table in left:
            await self._settle_table(table)
            self._tables.append(table)

    def _note_dead(self) -> None:
        self._journal.note_left_behind(sum(journal.size_bytes for journal in self._dead))

    async def _settle_table(self, table: DeadTable) -> None:
        lost = 0
        for slot, found in list(table.slots.items()):
            event = table.events.get(slot)
            if found.journalled is not None:
                self._settle_again(table, found, event, found.journalled)
                continue
            while not self._journal.reserve():  # noqa: ASYNC110 - space comes with billing's acknowledgement
                await asyncio.sleep(RESERVE_RETRY_SECONDS)
            self._settle(table, found)
            lost += 1
        if lost:
            await self._journal.durable(self._journal.last_sequence)
            log.warning("requests_recovered", table=table.path.name, requests=lost)
        table.journalled = True
        table.end_if_done()

    def _settle_again(self, table: DeadTable, found: Inflight, event: bytes | None, ending: Ending) -> None:
        """It is journalled, but perhaps not settled; if it was, this moves nothing."""
        identity, prices = decode_head(found.head)
        request_id = id_of(identity)
        # Without the event billing had all of its journal, and the slot has the same counts.
        tokens = (_counted(found)[1] or NONE) if event is None else decode_event(event).tokens
        claim, outcome = decode_claim(found.claim), None
        if isinstance(claim, ClaimedId):
            if ending in NOT_SERVED:
                self._request_ids.give_back(claim)
        # Who was cut off by a death may simply try again.
        elif claim is not None and ending is not Ending.GATEWAY_LOST:
            kept = KeptAnswer(id=request_id, ending=ending, tokens=tokens, revision=revision_of(identity))
            outcome = outcome_of(claim, kept, None)
        cost = cost_micros(prices, tokens)
        then = partial(table.settled, found.slot)
        self._settler.settle(
            request_id, cost=cost, tokens=tokens, event=event or b"", then=then, outcome=outcome
        )

    def _settle(self, table: DeadTable, found: Inflight) -> None:
        identity, prices = decode_head(found.head)
        request_id = id_of(identity)
        usage, counted = _counted(found)
        counts = fragment_of(
            usage, counted, first_token_at_us=found.first_token_at_us, attempts=found.attempts
        )
        build = partial(
            final_event,
            identity=identity,
            counts=counts,
            journal=self._journal.fragment,
            finished_at_us=time.time_ns() // 1000,
            ending=Ending.GATEWAY_LOST,
        )
        sequence = self._journal.last_sequence + 1
        event = build(sequence=sequence)
        appended = self._journal.append(lambda _: event)
        assert appended == sequence
        # From then on billing may acknowledge it, and its segment go, however long the others of the table take.
        self._journal.when_durable(sequence, partial(table.note, found.slot, Ending.GATEWAY_LOST))
        if isinstance(claim := decode_claim(found.claim), ClaimedId):
            self._request_ids.give_back(claim)
        tokens = counted or NONE
        cost, then = cost_micros(prices, tokens), partial(table.settled, found.slot)
        self._settler.settle(request_id, cost=cost, tokens=tokens, event=event, then=then)


def _counted(found: Inflight) -> tuple[bytes, TokenCounts | None]:
    """The newest usage that is one, as its lease would have it."""
    counted = read_counts(found.usage)
    if counted is not None or not found.usage:
        return found.usage, counted
    log.error("usage_invalid", request=id_of(decode_head(found.head)[0]))
    before = read_counts(found.usage_before)
    return (b"" if before is None else found.usage_before), before


def _read(table: Path, state: Path) -> DeadTable:
    """What stands in it, and what any journal has of that: noted there, because the journals go before it does."""
    slots = {found.slot: found for found in read_table(table)}
    by_id = {id_of(decode_head(found.head)[0]): slot for slot, found in slots.items()}
    events: dict[int, bytes] = {}
    if by_id:
        events = {
            by_id[request_id]: event for request_id, event in _events_written(state, set(by_id)).items()
        }
    dead = DeadTable(table, slots, events, map_table(table) if slots else None)
    for slot, event in events.items():
        ending = decode_event(event).ending
        dead.note(slot, ending)
        slots[slot] = replace(slots[slot], journalled=ending)
    return dead


def _dead_journals(claim: producers.Claim, segments: list[Path]) -> list[DeadJournal]:
    by_boot: dict[str, list[Path]] = defaultdict(list)
    for path in segments:
        by_boot[producers.boot_of(path)].append(path)
    journals = []
    for boot, paths in by_boot.items():
        # What was allocated for more than they hold would fill the disk, death by death.
        last = max(trim(path) for path in paths)
        kept = [path for path in paths if path.exists()]
        size = sum(path.stat().st_size for path in kept)
        journal = DeadJournal(channels.journal(claim.producer, boot), claim.folder, kept, last, size)
        if last:
            journals.append(journal)
    return journals


def _events_written(state: Path, wanted: set[str]) -> dict[str, bytes]:
    """The events that the ids have in any journal here: a recovery may itself have been killed half-way."""
    paths = (state / "producers").glob(f"*/*{producers.SEGMENT_SUFFIX}")
    return {
        request_id: record.event
        for path in paths
        for record in read_records(path)
        if (request_id := id_of_event(record.event)) in wanted
    }
