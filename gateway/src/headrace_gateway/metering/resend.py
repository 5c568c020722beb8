"""The slow path to billing: what the stream did not deliver in time goes over HTTP, from the journal's files.

It is rare and must not disturb requests, so reading and posting are blocking code in a thread.
"""

import asyncio
import http.client
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from headrace_contracts.ingest import EVENTS_MAX, UsageEventReply
from headrace_gateway.metering.segments import read_records

log = structlog.get_logger()

BATCH_BYTES_MAX = 2 * 2**20
REPLY_BYTES_MAX = 4 * 2**20
TIMEOUT_SECONDS = 15.0
WAIT_SECONDS_MIN = 1.0
WAIT_SECONDS_MAX = 30.0

INGEST_PATH = "/internal/v1/usage-events"

_decode_reply = msgspec.json.Decoder(UsageEventReply).decode


class Unacknowledged(Protocol):
    """A journal, living or dead."""

    name: str
    acknowledged: int
    last_sequence: int

    @property
    def segments(self) -> list[Path]: ...

    def overdue(self, *, age_seconds: float) -> int: ...

    def acknowledge(self, sequence: int) -> None: ...


class ResendFailed(Exception):
    """Billing can't be reached, or answered what is no answer."""


@dataclass(frozen=True, slots=True)
class Place:
    """Everything before it in its journal has a sequence of at most `sequence`."""

    path: Path
    offset: int
    sequence: int


class Resender:
    def __init__(self, *, billing_url: str, ingest_token: str, age_seconds: float) -> None:
        self._billing_url = billing_url
        self._ingest_token = ingest_token
        self._age_seconds = age_seconds
        self._places: dict[str, Place] = {}
        self._wait_seconds = WAIT_SECONDS_MIN
        self._not_before = 0.0

    async def round(self, journals: Sequence[Unacknowledged], *, everything: bool = False) -> None:
        """Sends what is overdue; with `everything`, what is not acknowledged at all."""
        if time.monotonic() < self._not_before:
            return
        self._places = {j.name: self._places[j.name] for j in journals if j.name in self._places}
        moved = True
        for journal in journals:
            last = journal.overdue(age_seconds=0.0 if everything else self._age_seconds)
            if last == 0:
                continue
            try:
                await self._resend(journal, last)
            except ResendFailed as error:
                log.warning("resend_failed", journal=journal.name, error=str(error))
                moved = False
                break
            moved = moved and journal.acknowledged >= last
        if moved:
            self._wait_seconds = WAIT_SECONDS_MIN
        else:
            # Billing is away, or misses a sequence that nobody has: then only a person can close the gap.
            self._not_before = time.monotonic() + self._wait_seconds
            self._wait_seconds = min(self._wait_seconds * 2, WAIT_SECONDS_MAX)

    async def _resend(self, journal: Unacknowledged, last: int) -> None:
        # Past a gap too: what lies behind it must reach billing although it can't be acknowledged yet.
        sent = journal.acknowledged
        while sent < last:
            place = self._places.get(journal.name)
            events, reached = await asyncio.to_thread(read_batch, journal.segments, sent, last, place)
            if reached is None:
                log.error("journal_gap", journal=journal.name, after=sent, wanted=last)
                return
            self._places[journal.name] = reached
            sent = reached.sequence
            reply = await asyncio.to_thread(post_events, self._billing_url, self._ingest_token, events)
            log.info("usage_resent", journal=journal.name, events=len(events), through=sent)
            journal.acknowledge(reply.acknowledged.get(journal.name, 0))


def read_batch(
    segments: Sequence[Path], after: int, last: int, place: Place | None
) -> tuple[list[bytes], Place | None]:
    """Events with sequences in (after, last], and where to go on; null when there is none."""
    events: list[bytes] = []
    size, reached = 0, None
    starts = dict.fromkeys(segments, 0)
    if place is not None and place.path in starts and place.sequence <= after:
        for path in segments[: segments.index(place.path)]:
            del starts[path]
        starts[place.path] = place.offset
    for path, start in starts.items():
        for record in read_records(path, start=start):
            if record.sequence <= after:
                continue
            if record.sequence > last or len(events) == EVENTS_MAX or size > BATCH_BYTES_MAX:
                return events, reached
            events.append(record.event)
            size += len(record.event)
            reached = Place(path, record.end, record.sequence)
    return events, reached


def post_events(billing_url: str, ingest_token: str, events: Sequence[bytes]) -> UsageEventReply:
    parts = urlsplit(billing_url)
    assert parts.hostname is not None, billing_url
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    headers = {"Authorization": f"Bearer {ingest_token}", "Content-Type": "application/json"}
    try:
        body = b'{"events":[%b]}' % b",".join(events)
        connection.request("POST", parts.path.rstrip("/") + INGEST_PATH, body, headers)
        response = connection.getresponse()
        content = response.read(REPLY_BYTES_MAX)
        if response.status != http.client.OK:
            raise ResendFailed(f"billing answered {response.status}")
        return _decode_reply(content)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise ResendFailed(str(error) or type(error).__name__) from error
    finally:
        connection.close()
