"""Records on this machine's disk until billing has them.

A replica appends lines of JSON to a segment of its own, which it holds locked; a segment whose lock is free was
left by a replica that died or moved on to the next one, and whoever ships next takes it over. Beside a segment
stands how far it was acknowledged. Losing that file only means that records are sent again, which billing
takes as the same.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

SUFFIX = ".jsonl"
ACKNOWLEDGED_SUFFIX = ".acknowledged"

# A shipped segment is deleted whole, so this is what a replica keeps of what billing has already.
SEGMENT_BYTES_MAX = 4 * 2**20
# With billing away: some five million requests. Beyond it records are lost, loudly, but no request is.
SPOOL_BYTES_MAX = 4 * 2**30

log = structlog.get_logger()


class Spool:
    """Where one replica appends. To be used by one thread."""

    def __init__(
        self,
        folder: Path,
        replica: str,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.lost = 0
        """Records that could not be written."""
        self._replica = replica
        self._segment_bytes_max = segment_bytes_max
        self._spool_bytes_max = spool_bytes_max
        self._number = 0
        self._size = 0
        self._file = -1
        self.current = self._begin_segment()

    def append(self, record: bytes) -> bool:
        """Writes one record; it survives this process, whatever becomes of it. False when it could not be."""
        assert b"\n" not in record, "a record is one line"
        try:
            if self._size >= self._segment_bytes_max:
                self._next_segment()
            written = os.write(self._file, record + b"\n")
        except OSError as error:
            # No disk is no reason to break a request: the gateway's own account of it goes on.
            self._lose(str(error))
            return False
        self._size += written
        if written <= len(record):
            self._lose("the disk took half a record")
            # What follows must not be joined to the half.
            with suppress(OSError):
                self._next_segment()
            return False
        return True

    def sync(self) -> None:
        """Makes what was appended survive the machine too."""
        with suppress(OSError):
            os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)
        self._file = -1

    def _next_segment(self) -> None:
        if size(self.folder) >= self._spool_bytes_max:
            raise SpoolFull
        before, self._number = self._file, self._number + 1
        self.current = self._begin_segment()
        os.close(before)

    def _begin_segment(self) -> Path:
        path = self.folder / f"{self._replica}.{self._number:06d}{SUFFIX}"
        # Locked before it has a name that others look for, else one could take it over while it is empty.
        unnamed = path.with_suffix(f".{secrets.token_hex(4)}")
        file = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(path)
        self._file, self._size = file, 0
        return path

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if self.lost.bit_count() == 1:  # the first, and each time that they have doubled
            log.error("engine_records_lost", lost=self.lost, reason=reason)


class SpoolFull(OSError):
    """Billing has been away for so long that the spool's bound is reached."""

    def __str__(self) -> str:
        return "the spool is full"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of records, and how far billing has it."""

    path: Path

    @property
    def acknowledged(self) -> int:
        try:
            return int(self._mark.read_bytes() or b"0")
        except (FileNotFoundError, ValueError):
            return 0

    def lines(self, *, count_max: int, bytes_max: int) -> tuple[list[bytes], int]:
        """The next whole lines that are not acknowledged, and where they end."""
        start = self.acknowledged
        with self.path.open("rb") as file:
            file.seek(start)
            lines = file.read(bytes_max).splitlines(keepends=True)[:count_max]
        whole = [line for line in lines if line.endswith(b"\n")]
        return [line.rstrip(b"\n") for line in whole], start + sum(map(len, whole))

    def acknowledge(self, end: int) -> None:
        new = self._mark.with_suffix(".new")
        new.write_bytes(b"%d" % end)
        new.replace(self._mark)

    def delete(self) -> None:
        self._mark.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.path.with_suffix(ACKNOWLEDGED_SUFFIX)


def segments(folder: Path) -> list[Segment]:
    """Every segment in the folder, anyone's, oldest name first."""
    return [Segment(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]


def size(folder: Path) -> int:
    """Bytes in the folder's segments."""
    total = 0
    for segment in segments(folder):
        with suppress(FileNotFoundError):
            total += segment.path.stat().st_size
    return total


@contextmanager
def taken_over(segment: Segment) -> Iterator[bool]:
    """Whether the segment has lost its owner; then it is ours while the context lasts."""
    try:
        file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # Another may have shipped and deleted it between our opening and locking it.
            yield os.fstat(file).st_nlink > 0
    finally:
        os.close(file)
