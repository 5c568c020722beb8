"""Settles what dead processes left: their running requests from the in-flight table, their journals to billing.

What must stay true: a request gets one final event, so a slot whose id stands in any journal of this state
folder gets no second one; and nothing is removed before what it holds is safe elsewhere: a table when its events are
durable in the new journal, a segment when billing has acknowledged it.
"""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from headrace_contracts import channels
from headrace_contracts.usage import Ending, decode_event
from headrace_gateway.limits.pricing import cost_micros
from headrace_gateway.metering import producers
from headrace_gateway.metering.counts import NONE, read_counts
from headrace_gateway.metering.events import final_event, id_of, id_of_event
from headrace_gateway.metering.inflight import Inflight, read_table
from headrace_gateway.metering.journal import Journal
from headrace_gateway.metering.lease import decode_head, fragment_of
from headrace_gateway.metering.segments import read_records
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


class Recovery:
    def __init__(self, claim: producers.Claim, state: Path, *, journal: Journal, settler: Settler) -> None:
        self._own = claim
        self._state = state
        self._journal = journal
        self._settler = settler
        self._own_done = False
        self._others: list[producers.Claim] = []
        self._dead: list[DeadJournal] = []

    @property
    def dead(self) -> list[DeadJournal]:
        """The journals left behind that billing has not acknowledged in full."""
        self._dead = [journal for journal in self._dead if journal.acknowledged < journal.last_sequence]
        return self._dead

    async def run(self) -> None:
        """Takes over what is there to take; called at the start and every now and then."""
        if not self._own_done:
            await self._take_over(self._own, boot=self._journal.boot)
            self._own_done = True
        for claim in await asyncio.to_thread(producers.claim_orphans, self._state):
            self._others.append(claim)
            await self._take_over(claim, boot=None)
        self.release()

    def release(self, *, everything: bool = False) -> None:
        """Unlocks foreign folders that are done with."""
        busy = set() if everything else {journal.folder for journal in self.dead}
        for claim in [claim for claim in self._others if claim.folder not in busy]:
            self._others.remove(claim)
            claim.release()

    async def _take_over(self, claim: producers.Claim, *, boot: str | None) -> None:
        paths = await asyncio.to_thread(producers.left_behind, claim.folder, boot=boot)
        tables = [path for path in paths if path.suffix == producers.TABLE_SUFFIX]
        segments = [path for path in paths if path.suffix == producers.SEGMENT_SUFFIX]
        for table in tables:
            await self._settle_table(table)
            table.unlink()
        self._dead += await asyncio.to_thread(_dead_journals, claim, segments)

    async def _settle_table(self, table: Path) -> None:
        left = {
            id_of(decode_head(found.head)[0]): found for found in await asyncio.to_thread(read_table, table)
        }
        if left:
            written = await asyncio.to_thread(_events_written, self._state, set(left))
            for request_id, event in written.items():
                self._settle_again(request_id, left.pop(request_id), event)
        last = 0
        for request_id, found in left.items():
            while not self._journal.reserve():  # noqa: ASYNC110 - space comes with billing's acknowledgement
                await asyncio.sleep(RESERVE_RETRY_SECONDS)
            last = self._settle(request_id, found)
        if last:
            await self._journal.durable(last)
            log.warning("requests_recovered", table=table.name, requests=len(left))

    def _settle_again(self, request_id: str, found: Inflight, event: bytes) -> None:
        """Its event was written, but perhaps not sent; if it was, this moves nothing."""
        tokens = decode_event(event).tokens
        cost = cost_micros(decode_head(found.head)[1], tokens)
        self._settler.settle(request_id, cost=cost, tokens=tokens, event=event)

    def _settle(self, request_id: str, found: Inflight) -> int:
        identity, prices = decode_head(found.head)
        counted = read_counts(found.usage)
        if counted is None and found.usage:
            log.error("engine_usage_invalid", request=request_id)
        counts = fragment_of(
            found.usage, counted, first_token_at_us=found.first_token_at_us, attempts=found.attempts
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
        appended = self._journal.append(lambda _: event, lambda: None)
        assert appended == sequence
        tokens = counted or NONE
        self._settler.settle(request_id, cost=cost_micros(prices, tokens), tokens=tokens, event=event)
        return sequence


def _dead_journals(claim: producers.Claim, segments: list[Path]) -> list[DeadJournal]:
    by_boot: dict[str, list[Path]] = defaultdict(list)
    for path in segments:
        by_boot[producers.boot_of(path)].append(path)
    journals = []
    for boot, paths in by_boot.items():
        last = max((record.sequence for path in paths for record in read_records(path)), default=0)
        journal = DeadJournal(channels.journal(claim.producer, boot), claim.folder, paths, last)
        if last:
            journals.append(journal)
        else:
            journal.remove()  # killed before its first event
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
