"""The journal: the record of what this process's requests used, until billing has acknowledged it.

`reserve` before a request is admitted, `append` when it ended, `durable` before the client may know. Appends
of one loop tick are one write, and all writes since the last fdatasync began are the next one. These run in a thread,
one after the other, each asked for by the loop: so the two share no state, and wake each other once a round.

What must stay true: sequences are contiguous from 1 and appear in the file in order; an append never finds
the disk full, because it was reserved in space already allocated; and a segment goes only when every
sequence in it is acknowledged.
"""

import asyncio
import itertools
import os
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from headrace_contracts import channels
from headrace_gateway.metering import producers
from headrace_gateway.metering.events import journal_fragment
from headrace_gateway.metering.segments import RECORD_BYTES_MAX, create_segment, encode_record

log = structlog.get_logger()

WRITE_RETRY_SECONDS = 0.5
MARKS_MAX = 120  # one a heartbeat: two minutes of knowing what was appended when


@dataclass(slots=True)
class Segment:
    path: Path
    descriptor: int
    used_bytes: int = 0
    last_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """What the thread is asked for."""

    written: int
    """The last sequence that stands in them."""
    sync: tuple[int, ...]
    """Descriptors."""
    close: tuple[int, ...]
    """Of these the full ones: nothing more is written there."""
    spare: bool
    """Whether to make another segment."""


class Journal:
    def __init__(self, claim: producers.Claim, *, segment_bytes: int, bytes_max: int) -> None:
        """Blocks on the disk: call it off the loop or before the service opens.

        It opens on a full disk as well: nothing can be reserved then, but what dead processes left can go to billing,
        and the space that this gives back is taken.
        """
        assert segment_bytes >= 4 * RECORD_BYTES_MAX, segment_bytes
        assert bytes_max >= 2 * segment_bytes, bytes_max
        self.producer = claim.producer
        self.boot = uuid.uuid4().hex
        self.fragment = journal_fragment(self.producer, self.boot)
        self.name = channels.journal(self.producer, self.boot)
        self.last_sequence = 0
        self.acknowledged = 0
        self._folder = claim.folder
        self._segment_bytes = segment_bytes
        self._bytes_max = bytes_max
        self._left_behind_bytes = 0
        self._crowded = False
        self._numbers = itertools.count(1)
        self._reserved = 0
        self._full: deque[Segment] = deque()
        self._current: Segment | None = None
        self._spare: Segment | None = None
        try:
            self._current = self._create()
            self._spare = self._create()
        except OSError as error:
            log.critical("journal_space_short", journal=self.name, error=str(error))
        self._spare_asked = False
        self._unwritten: list[tuple[int, bytes]] = []
        self._failing = self._broken = False
        self._marks: deque[tuple[float, int]] = deque(maxlen=MARKS_MAX)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._written = 0
        self._to_sync: list[int] = []
        self._to_close: list[int] = []
        self._spare_wanted = False
        self._syncing = False
        self._synced = 0
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._rounds: queue.SimpleQueue[Round | None] = queue.SimpleQueue()
        self._syncer = threading.Thread(target=self._sync_forever, name="journal-sync", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._syncer.start()

    @property
    def segments(self) -> list[Path]:
        """Oldest first; the last one is being written."""
        written = self._full if self._current is None else (*self._full, self._current)
        return [segment.path for segment in written]

    @property
    def size_bytes(self) -> int:
        """Space that is taken up, written or not, by dead processes' journals as well."""
        own = len(self._full) + (self._current is not None) + (self._spare is not None)
        return own * self._segment_bytes + self._left_behind_bytes

    @property
    def size_bytes_max(self) -> int:
        return self._bytes_max

    @property
    def writable(self) -> bool:
        return not (self._failing or self._broken or self._crowded or self._current is None)

    def note_left_behind(self, size_bytes: int) -> None:
        """What dead processes' journals take of the space. Two segments are ours, unless theirs fill all of it."""
        self._left_behind_bytes = size_bytes
        self._crowded = size_bytes > self._bytes_max
        self._want_spare()

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest event that is not acknowledged, as of the last mark; 0 where all are."""
        return time.monotonic() - self._marks[0][0] if self._marks else 0.0

    def reserve(self) -> bool:
        """Space for one event. False: nothing may be admitted."""
        current = self._current
        if current is None or self._failing or self._broken or self._crowded:
            return False
        # A segment's last bytes may be too few for the next record, so one record's room is never counted.
        free = self._segment_bytes - current.used_bytes - RECORD_BYTES_MAX
        if self._spare is not None:
            free += self._segment_bytes - RECORD_BYTES_MAX
        unwritten = len(self._unwritten)
        if (self._reserved + unwritten + 1) * RECORD_BYTES_MAX > free:
            self._want_spare()
            return False
        self._reserved += 1
        return True

    def give_back(self) -> None:
        assert self._reserved > 0
        self._reserved -= 1

    def append(self, build: Callable[[int], bytes]) -> int:
        """Appends the event that `build` makes for its sequence, using up one reservation.

        At the end of the loop's tick the bytes are the kernel's, or with `write`: from then on a SIGKILL loses nothing.
        """
        self.give_back()
        assert self._loop is not None
        self.last_sequence = sequence = self.last_sequence + 1
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append((sequence, encode_record(sequence, build(sequence))))
        return sequence

    def write(self) -> None:
        """For whoever is about to tell others of an event: one that they know and no journal has would be made anew."""
        if self._unwritten and not self._failing:
            self._write()

    def durable(self, sequence: int) -> asyncio.Future[None]:
        """Done when the sequence is on the disk."""
        assert self._loop is not None
        future: asyncio.Future[None] = self._loop.create_future()
        self.when_durable(sequence, partial(_end, future))
        return future

    def when_durable(self, sequence: int, then: Callable[[], None]) -> None:
        """Calls `then` when the sequence is on the disk; at once if it is. Cheaper than a future."""
        if sequence <= self._synced:
            then()
        else:
            self._waiting.append((sequence, then))

    def mark(self) -> None:
        """Remembers what was appended by now, for `overdue`."""
        if not self._marks or self._marks[-1][1] < self.last_sequence:
            self._marks.append((time.monotonic(), self.last_sequence))

    def overdue(self, *, age_seconds: float) -> int:
        """The highest sequence appended at least so long ago and not acknowledged; 0 for none."""
        now, found = time.monotonic(), 0
        for marked_at, sequence in self._marks:
            if now - marked_at < age_seconds:
                break
            found = sequence
        return found if found > self.acknowledged else 0

    def acknowledge(self, sequence: int) -> None:
        """Billing has every event up to this one. Lets segments go that hold no other."""
        if sequence > self.last_sequence:
            log.error("acknowledged_unknown_sequence", journal=self.name, sequence=sequence)
            return
        self.acknowledged = max(self.acknowledged, sequence)
        while self._marks and self._marks[0][1] <= self.acknowledged:
            self._marks.popleft()
        # What billing has is not always on the disk yet, and until it is nobody has noted that it stands here.
        safe = min(self.acknowledged, self._synced)
        while self._full and self._full[0].last_sequence <= safe:
            self._full.popleft().path.unlink(missing_ok=True)
        self._want_spare()

    def close(self) -> None:
        """Everything appended is on the disk; removes what is acknowledged, leaves the rest to a successor."""
        self._write()
        self._begin_round()
        self._rounds.put(None)
        if self._syncer.is_alive():
            self._syncer.join()
        if self._spare is not None:
            os.close(self._spare.descriptor)
            self._spare.path.unlink(missing_ok=True)
        if self._current is not None:
            os.close(self._current.descriptor)
            if self._current.last_sequence <= self.acknowledged:
                self._current.path.unlink(missing_ok=True)

    def _create(self) -> Segment:
        path = producers.segment_path(self._folder, self.boot, next(self._numbers))
        return Segment(path, create_segment(path, size_bytes=self._segment_bytes))

    def _write(self) -> None:
        """Writes what this tick appended, a segment's share at a time."""
        batch, self._unwritten = self._unwritten, []
        done = 0
        try:
            while done < len(batch):
                current = self._current
                assert current is not None, "appended without a reservation"
                room = self._segment_bytes - current.used_bytes
                last = done
                while last < len(batch) and len(batch[last][1]) <= room:
                    room -= len(batch[last][1])
                    last += 1
                if last == done:
                    self._rotate(current)
                    continue
                _write_all(current, b"".join(record for _, record in batch[done:last]))
                current.last_sequence = batch[last - 1][0]
                self._want_sync(current)
                done = last
        except OSError as error:
            # The bytes stay in memory and their requests in the in-flight table; nothing new is admitted.
            log.critical("journal_write_failed", journal=self.name, error=str(error))
            self._failing = True
            self._unwritten = batch[done:] + self._unwritten
            assert self._loop is not None
            self._loop.call_later(WRITE_RETRY_SECONDS, self._write)
        else:
            self._failing = False
        if done:
            self._written = batch[done - 1][0]
            if not self._syncing:
                self._begin_round()

    def _rotate(self, full: Segment) -> None:
        # Every event was reserved in the current segment or the spare, so there is one; else it is made here.
        self._current = self._spare or self._create()
        self._spare = None
        self._full.append(full)
        self._want_sync(full)
        self._to_close.append(full.descriptor)
        self._want_spare()

    def _want_sync(self, segment: Segment) -> None:
        if segment.descriptor not in self._to_sync:
            self._to_sync.append(segment.descriptor)

    def _want_spare(self) -> None:
        if self._spare is not None or self._spare_asked:
            return
        free = self._bytes_max - self._left_behind_bytes - len(self._full) * self._segment_bytes
        if free >= 2 * self._segment_bytes or not (self._full or self._crowded):
            self._spare_asked = self._spare_wanted = True
            if not self._syncing:
                self._begin_round()

    def _begin_round(self) -> None:
        self._syncing = True
        self._rounds.put(
            Round(self._written, tuple(self._to_sync), tuple(self._to_close), self._spare_wanted)
        )
        self._to_sync, self._to_close, self._spare_wanted = [], [], False

    # In the thread.

    def _sync_forever(self) -> None:
        while (asked := self._rounds.get()) is not None:
            synced: int | None = asked.written
            try:
                for descriptor in asked.sync:
                    os.fdatasync(descriptor)
            except OSError as error:
                # What was written may be gone from the cache as well as from the disk; the stream has it.
                log.critical("journal_sync_failed", journal=self.name, error=str(error))
                synced = None
            self._tell(self._on_round, synced)
            for descriptor in asked.close:
                os.close(descriptor)
            if asked.spare:
                try:
                    spare = self._create()
                except OSError as error:
                    log.warning("journal_space_short", journal=self.name, error=str(error))
                    self._tell(self._on_spare, None)
                else:
                    self._tell(self._on_spare, spare)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.warning("journal_outlived_its_loop", journal=self.name)

    def _on_spare(self, spare: Segment | None) -> None:
        self._spare_asked = False
        if self._current is None:
            self._current, spare = spare, None
            if self._current is not None:
                log.warning("journal_space_found", journal=self.name)
                self._want_spare()
        self._spare = spare

    def _on_round(self, synced: int | None) -> None:
        self._syncing = False
        if synced is None:
            # A later fdatasync may succeed without those pages, so only a new boot may be trusted again.
            self._broken = True
        elif not self._broken:
            self._synced = synced
        if self._to_sync or self._spare_wanted:
            self._begin_round()
        while self._waiting and self._waiting[0][0] <= self._synced:
            _, then = self._waiting.popleft()
            then()


def _write_all(segment: Segment, content: bytes) -> None:
    view, offset = memoryview(content), segment.used_bytes
    while view:
        count = os.pwrite(segment.descriptor, view, offset)
        view, offset = view[count:], offset + count
    segment.used_bytes = offset


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
