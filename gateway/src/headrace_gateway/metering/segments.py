"""The journal's file format: records one after another in files whose space was allocated beforehand.

A record is length u32 · checksum u32 (of sequence and event) · sequence u64 · event. Zeros follow the last
one. Reading ends at the first record that is not whole: a torn tail is cut, never guessed at.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import structlog

log = structlog.get_logger()

HEADER = struct.Struct("<IIQ")
_SEQUENCE = struct.Struct("<Q")

# An event has bounded parts: identity (2.4 KiB), counts and the engine's usage (under 1 KiB).
RECORD_BYTES_MAX = 8192
EVENT_BYTES_MAX = RECORD_BYTES_MAX - HEADER.size

PIECE_BYTES = 256 * 1024

UNREADABLE_SUFFIX = ".unreadable"
"""Of what nobody takes over."""


@dataclass(frozen=True, slots=True)
class Record:
    sequence: int
    event: bytes
    end: int
    """Where the next record begins."""


def encode_record(sequence: int, event: bytes) -> bytes:
    assert 0 < len(event) <= EVENT_BYTES_MAX, len(event)
    checksum = crc32(event, crc32(_SEQUENCE.pack(sequence)))
    return HEADER.pack(len(event), checksum, sequence) + event


def read_records(path: Path, *, start: int = 0) -> Iterator[Record]:
    """The whole records from an offset on; nothing if the file is gone."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            offset = start
            while len(header := file.read(HEADER.size)) == HEADER.size:
                length, checksum, sequence = HEADER.unpack(header)
                if not 0 < length <= EVENT_BYTES_MAX:
                    return
                event = file.read(length)
                if len(event) < length or crc32(event, crc32(_SEQUENCE.pack(sequence))) != checksum:
                    return
                offset += HEADER.size + length
                yield Record(sequence, event, offset)
    except FileNotFoundError:
        return


def trim(path: Path) -> int:
    """The last sequence in a segment that nobody writes any more; 0 for none, and then the file is gone.

    Gives back the space behind the last record, unless something unreadable stands there: such a file stays, under another
    name too, for a person to look at when billing has all that can be read of it.
    """
    last, end = 0, 0
    for record in read_records(path):
        last, end = record.sequence, record.end
    try:
        with path.open("r+b") as file:
            file.seek(end)
            while piece := file.read(PIECE_BYTES):
                if piece.count(0) != len(piece):
                    kept = path.with_suffix(UNREADABLE_SUFFIX)
                    log.error("journal_tail_unreadable", segment=path.name, offset=end, kept=kept.name)
                    if not kept.exists():
                        kept.hardlink_to(path)
                    break
            else:
                file.truncate(end)
        if last == 0:
            path.unlink()
    except OSError as error:
        log.warning("journal_not_trimmed", segment=path.name, error=str(error))
    return last


def create_segment(path: Path, *, size_bytes: int) -> int:
    """A new segment's descriptor, its space allocated: a write within it can't find the disk full."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
        os.fsync(descriptor)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor
