"""The journal keeps what it called durable, in order, within its space, until it is acknowledged."""

import asyncio
import errno
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from headrace_gateway.metering.journal import Journal
from headrace_gateway.metering.producers import Claim, claim_orphans, claim_own
from headrace_gateway.metering.recovery import _dead_journals
from headrace_gateway.metering.segments import RECORD_BYTES_MAX, Record, read_records, trim
from tests.gateway import forking
from tests.gateway.waiting import eventually

SEGMENT_BYTES = 4 * RECORD_BYTES_MAX


@pytest.fixture
def claim(tmp_path: Path) -> Iterator[Claim]:
    claimed = claim_own(tmp_path, "gateway")
    yield claimed
    claimed.release()


def event(sequence: int, *, size: int = 300) -> bytes:
    return b"%d:" % sequence + bytes([sequence % 251]) * size


def append(journal: Journal, *, size: int = 300) -> int:
    assert journal.reserve()
    return journal.append(lambda sequence: event(sequence, size=size))


def records_of(folder: Path) -> list[Record]:
    return [record for path in sorted(folder.glob("*.journal")) for record in read_records(path)]


async def append_forever(claim: Claim, durable: int) -> None:
    journal = Journal(claim, segment_bytes=64 * 1024, bytes_max=512 * 1024 * 1024)
    journal.start()

    async def one() -> None:
        while True:
            if journal.reserve():
                build = partial(event, size=random.randrange(1, 2000))
                sequence = journal.append(build)
                await journal.durable(sequence)
                os.write(durable, b"%d\n" % sequence)
            else:
                await asyncio.sleep(0.001)

    await asyncio.gather(*(one() for _ in range(8)))


def run_appending(state: Path, durable: int) -> None:
    asyncio.run(append_forever(claim_own(state, "gateway"), durable))


def test_a_killed_process_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    most = 0
    for kill in range(10):
        state = tmp_path / str(kill)
        reading, writing = os.pipe()
        child = forking.start(partial(run_appending, state, writing))
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            # Killed after so many were told at least, however long it takes the child to begin.
            first = [pipe.readline() for _ in range(10 * kill + 1)]
            time.sleep(random.uniform(0.0, 0.05))
            forking.kill(child)
            told = [int(line) for line in [*first, *pipe] if line.endswith(b"\n")]

        [claim] = claim_orphans(state)
        found = records_of(claim.folder)
        claim.release()
        assert [record.sequence for record in found] == list(range(1, len(found) + 1))
        assert set(told) <= {record.sequence for record in found}
        for record in found:
            size = len(record.event) - len(b"%d:" % record.sequence)
            assert record.event == event(record.sequence, size=size)
        most = max(most, len(found))
    assert most > 50


async def test_a_tick_is_one_write_and_one_sync_serves_all(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES * 10, bytes_max=SEGMENT_BYTES * 20)
    journal.start()
    sequences = [append(journal) for _ in range(20)]
    assert records_of(claim.folder) == []  # nothing before the tick's end
    await asyncio.gather(*(journal.durable(sequence) for sequence in sequences))
    assert [record.sequence for record in records_of(claim.folder)] == list(range(1, 21))
    assert journal.durable(20).done()
    journal.close()


async def test_an_events_bytes_are_the_kernels_at_the_end_of_the_tick(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    journal.start()
    append(journal)
    assert records_of(claim.folder) == []
    await asyncio.sleep(0)
    assert len(records_of(claim.folder)) == 1
    journal.close()


async def test_an_events_bytes_are_the_kernels_before_others_are_told_of_it(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    journal.start()
    append(journal)
    journal.write()
    assert len(records_of(claim.folder)) == 1
    append(journal)
    await journal.durable(2)
    assert [record.sequence for record in records_of(claim.folder)] == [1, 2]
    journal.close()


async def test_after_a_sync_that_failed_nothing_more_is_called_durable(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    journal.start()
    assert journal.reserve()  # for the one that ends after the failure
    syncs: list[int] = []

    def fdatasync(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) == 1:
            raise OSError(errno.EIO, "the disk lost it")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    first = journal.durable(append(journal))
    await eventually(lambda: not journal.writable)
    second = journal.durable(journal.append(event))
    await eventually(lambda: len(syncs) == 2)
    await asyncio.sleep(0.05)
    assert not first.done()
    assert not second.done()
    journal.close()


async def test_what_billing_has_goes_only_once_it_is_on_the_disk(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 3)
    journal.start()
    may_sync = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _: may_sync.wait(10))
    while len(journal.segments) == 1:
        append(journal, size=RECORD_BYTES_MAX - 100)
        await asyncio.sleep(0)
    [full, _] = journal.segments
    journal.acknowledge(journal.last_sequence)
    assert full.exists()
    may_sync.set()
    await journal.durable(journal.last_sequence)
    journal.acknowledge(journal.last_sequence)
    assert not full.exists()
    journal.close()


async def test_a_torn_tail_is_cut(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    journal.start()
    await journal.durable([append(journal) for _ in range(3)][-1])
    [path] = journal.segments
    content = path.read_bytes()
    ends = [record.end for record in read_records(path)]
    for cut in (ends[2] - 1, ends[1] + 5, ends[1] + 1):
        path.write_bytes(content[:cut])
        assert [record.sequence for record in read_records(path)] == [1, 2]
    flipped = bytearray(content)
    flipped[ends[0] + 30] ^= 1
    path.write_bytes(flipped)
    assert [record.sequence for record in read_records(path)] == [1]
    journal.close()


async def test_space_is_reserved_before_and_given_back_by_acknowledgement(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 3)
    journal.start()
    size = RECORD_BYTES_MAX - 100
    appended = 0
    while journal.reserve():
        appended = journal.append(lambda sequence: event(sequence, size=size))
        await journal.durable(appended)
        await eventually(lambda: not journal._spare_asked)  # the next segment is made in the thread
    assert 6 <= appended <= 12
    assert len(list(claim.folder.glob("*.journal"))) == 3
    assert not journal.reserve()

    journal.acknowledge(appended - 1)
    await eventually(journal.reserve)
    assert [record.sequence for record in records_of(claim.folder)][-1] == appended
    journal.close()


async def test_what_was_reserved_always_fits(claim: Claim) -> None:
    """With every event as large as can be, and no more space to come."""
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    journal.start()
    reserved = 0
    while journal.reserve():
        reserved += 1
    assert reserved == 6
    for _ in range(reserved):
        last = journal.append(lambda sequence: event(sequence, size=RECORD_BYTES_MAX - 40))
    await journal.durable(last)
    assert len(records_of(claim.folder)) == reserved
    assert sum(path.stat().st_size for path in claim.folder.glob("*.journal")) == SEGMENT_BYTES * 2
    journal.close()


async def test_only_what_is_old_and_unacknowledged_is_overdue(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("headrace_gateway.metering.journal.time", SimpleNamespace(monotonic=lambda: now))
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES * 8, bytes_max=SEGMENT_BYTES * 16)
    journal.start()
    for _ in range(3):
        append(journal)
    journal.mark()
    now += 0.05
    append(journal)
    journal.mark()
    assert journal.overdue(age_seconds=0.04) == 3
    assert journal.overdue(age_seconds=0) == 4
    assert journal.overdue(age_seconds=9) == 0
    journal.acknowledge(3)
    assert journal.overdue(age_seconds=0.04) == 0
    journal.acknowledge(99)  # what was never appended can't be acknowledged
    assert journal.acknowledged == 3
    journal.close()


async def test_a_clean_end_leaves_only_what_is_not_acknowledged(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    journal.start()
    append(journal)
    journal.close()
    assert [record.sequence for record in records_of(claim.folder)] == [1]
    other = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
    other.start()
    await other.durable(append(other))
    other.acknowledge(1)
    other.close()
    assert not list(claim.folder.glob(f"{other.boot}*"))


async def test_a_failing_disk_refuses_new_requests_and_keeps_what_it_has(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES * 8, bytes_max=SEGMENT_BYTES * 16)
    journal.start()
    real, failing = os.pwrite, True

    def pwrite(descriptor: int, content: bytes, offset: int) -> int:
        if failing:
            raise OSError(5, "Input/output error")
        return real(descriptor, content, offset)

    monkeypatch.setattr("headrace_gateway.metering.journal.os.pwrite", pwrite)
    monkeypatch.setattr("headrace_gateway.metering.journal.WRITE_RETRY_SECONDS", 0.02)
    first = append(journal)
    await asyncio.sleep(0.01)
    assert not journal.reserve()
    failing = False
    await asyncio.wait_for(journal.durable(first), 30)
    assert journal.reserve()
    assert [record.sequence for record in records_of(claim.folder)] == [1]
    journal.close()


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    first, second = claim_own(tmp_path, "gateway"), claim_own(tmp_path, "gateway")
    assert (first.producer, second.producer) == ("gateway-0", "gateway-1")
    (first.folder / "boot.00000001.journal").touch()
    assert claim_orphans(tmp_path) == []
    first.release()
    [orphan] = claim_orphans(tmp_path)
    assert orphan.producer == "gateway-0"
    assert claim_own(tmp_path, "gateway").producer == "gateway-2"
    orphan.release()
    second.release()


def killed_boot(state: Path, *, events: int) -> None:
    """A process that appended, and was killed before anything was acknowledged."""

    async def run() -> None:
        claim = claim_own(state, "gateway")
        journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 2)
        journal.start()
        for _ in range(events):
            append(journal)
        await journal.durable(events)
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(forking.start(lambda: asyncio.run(run())), 0)
    assert os.WIFSIGNALED(status)


def test_a_dead_journal_takes_no_more_space_than_its_events(tmp_path: Path) -> None:
    killed_boot(tmp_path, events=3)
    [claim] = claim_orphans(tmp_path)
    [used, spare] = sorted(claim.folder.glob("*.journal"))
    before = records_of(claim.folder)
    assert trim(used) == 3
    assert trim(spare) == 0
    assert not spare.exists()
    assert used.stat().st_size == before[-1].end
    assert records_of(claim.folder) == before
    assert trim(used) == 3
    claim.release()


def test_what_can_not_be_read_is_not_cut_away(tmp_path: Path) -> None:
    killed_boot(tmp_path, events=3)
    [claim] = claim_orphans(tmp_path)
    [used, _] = sorted(claim.folder.glob("*.journal"))
    [first, *_] = read_records(used)
    damaged = bytearray(used.read_bytes())
    damaged[first.end + 20] ^= 1
    used.write_bytes(damaged)
    assert trim(used) == 1
    assert used.read_bytes() == damaged
    used.unlink()  # when billing has what can be read of it
    [kept] = claim.folder.glob("*.unreadable")
    assert kept.read_bytes() == damaged
    claim.release()


def test_what_can_not_be_read_at_all_stays_and_is_looked_at_once(tmp_path: Path) -> None:
    killed_boot(tmp_path, events=3)
    [claim] = claim_orphans(tmp_path)
    [used, spare] = sorted(claim.folder.glob("*.journal"))
    damaged = bytearray(used.read_bytes())
    damaged[20] ^= 1
    used.write_bytes(damaged)
    assert _dead_journals(claim, [used, spare]) == []
    [kept] = claim.folder.glob("*.unreadable")
    assert kept.read_bytes() == damaged
    claim.release()
    assert claim_orphans(tmp_path) == []


async def test_dead_journals_take_from_the_space_of_the_living(claim: Claim) -> None:
    journal = Journal(claim, segment_bytes=SEGMENT_BYTES, bytes_max=SEGMENT_BYTES * 4)
    journal.start()
    journal.note_left_behind(SEGMENT_BYTES * 2)
    assert journal.size_bytes == SEGMENT_BYTES * 4

    async def fill() -> int:
        count = 0
        while journal.reserve():
            await journal.durable(journal.append(partial(event, size=RECORD_BYTES_MAX - 100)))
            await eventually(lambda: not journal._spare_asked)  # the next segment is made in the thread
            count += 1
        return count

    assert 0 < await fill() <= 8
    assert len(list(claim.folder.glob("*.journal"))) == 2
    journal.note_left_behind(0)
    await eventually(lambda: not journal._spare_asked)
    assert await fill() > 0
    journal.acknowledge(journal.last_sequence)
    await eventually(lambda: not journal._spare_asked)
    journal.note_left_behind(SEGMENT_BYTES * 4 + 1)
    assert not journal.reserve()
    journal.close()
