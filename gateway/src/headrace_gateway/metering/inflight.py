"""The in-flight table: what this worker's requests have used so far, where a SIGKILL can't take it.

One memory-mapped file a process, `slots` fixed slots. What is stored is in the kernel's page cache at once,
so the next start settles every request that this one left, to the token relayed. A slot stands until its request's
event is on the disk and Valkey has counted it; while only the second is missing it says so, and how the request ended.
What must stay true: a process killed at any instruction leaves in each slot either its former value or its new one,
whole. Hence two buffers a slot, the byte that tells which is valid is written last; and the byte that opens a slot
after everything else in it. The checksums are for a machine that lost power, where pages may be torn.

Slot: state u8 · valid buffer u8 · ending u8 · pad u8 · head length u32 · head checksum u32 · claim length u32 · head ·
claim, if it has one, after its checksum u32 · … · buffer 0 · buffer 1; a buffer: length u32 · checksum u32 · first
token µs u64 · attempts u32 · pad u32 · usage.
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import structlog

from headrace_contracts.usage import Ending

log = structlog.get_logger()

SLOTS = 1024  # requests at once; one worker's core relays far fewer streams
SLOT_BYTES = 4096
USAGE_BYTES_MAX = 768  # vLLM's usage with all details is about 250

_SLOT = struct.Struct("<BBBBIII")
_CLAIM = struct.Struct("<I")
_BUFFER = struct.Struct("<IIQII")
_BUFFER_BYTES = _BUFFER.size + USAGE_BYTES_MAX
_BUFFERS_AT = SLOT_BYTES - 2 * _BUFFER_BYTES
HEAD_BYTES_MAX = _BUFFERS_AT - _SLOT.size  # 2,448

_MAGIC = struct.Struct("<8sII")
_MAGIC_TEXT = b"HRINFLT1"
_HEADER_BYTES = SLOT_BYTES  # keeps slots on page boundaries

_FREE, _OPEN, _JOURNALLED = 0, 1, 2

ENDINGS = (
    Ending.COMPLETED,
    Ending.CLIENT_GONE,
    Ending.UPSTREAM_FAILED,
    Ending.BUDGET_STOPPED,
    Ending.GATEWAY_LOST,
    Ending.TIMED_OUT,
    Ending.WITHHELD,
)
"""By their number in a slot, which another version may read: ones to come go to the end."""
_NUMBERS = {ending: number for number, ending in enumerate(ENDINGS)}


@dataclass(frozen=True, slots=True)
class Inflight:
    """One slot as it was found."""

    slot: int
    head: bytes
    usage: bytes
    first_token_at_us: int | None
    attempts: int
    claim: bytes = b""
    """Of its idempotency key, or of the client's own id; empty where it has neither."""
    journalled: Ending | None = None
    """How it ended, if a journal has its event already or billing acknowledged it."""
    usage_before: bytes = b""
    """What stood there until `usage` came."""


class InflightTable:
    def __init__(self, path: Path, *, slots: int = SLOTS) -> None:
        """Creates the file with all its space, so that a full disk shows here and not as a SIGBUS later.

        Where the disk is full it has no slot, until `create` finds space.
        """
        self.path = path
        self._slots = slots
        self._free: list[int] = []
        self._map: mmap.mmap
        self.created = False
        self.create()

    def create(self) -> None:
        try:
            self._map = _allocate(self.path, _HEADER_BYTES + self._slots * SLOT_BYTES)
        except OSError as error:
            log.critical("inflight_space_short", table=self.path.name, error=str(error))
            return
        _MAGIC.pack_into(self._map, 0, _MAGIC_TEXT, self._slots, SLOT_BYTES)
        self._free = list(range(self._slots - 1, -1, -1))
        self.created = True

    @property
    def running(self) -> int:
        return self._slots - len(self._free) if self.created else 0

    def take(self) -> int | None:
        """A slot for a request about to be admitted; null when all run. It reads as free until `open`."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int) -> None:
        """Clears the slot: its request is journalled and settled, or was never admitted."""
        self._map[_at(slot)] = _FREE
        self._free.append(slot)

    def open(self, slot: int, head: bytes, claim: bytes = b"") -> None:
        at = _at(slot)
        stored = head + _CLAIM.pack(crc32(claim)) + claim if claim else head
        assert len(stored) <= HEAD_BYTES_MAX, len(stored)
        self._map[at + _SLOT.size : at + _SLOT.size + len(stored)] = stored
        _BUFFER.pack_into(self._map, at + _BUFFERS_AT, 0, 0, 0, 0, 0)
        _SLOT.pack_into(self._map, at, _FREE, 0, 0, 0, len(head), crc32(head), len(claim))
        self._map[at] = _OPEN

    def journalled(self, slot: int, ending: Ending) -> None:
        """Its event is on the disk; Valkey has not answered yet."""
        note_journalled(self._map, slot, ending)

    def note(self, slot: int, usage: bytes, *, first_token_at_us: int, attempts: int) -> None:
        """Replaces the slot's counts. `usage` longer than `USAGE_BYTES_MAX` is the caller's to shorten."""
        at = _at(slot)
        flip = 1 - self._map[at + 1]
        buffer = at + _BUFFERS_AT + flip * _BUFFER_BYTES
        written = _BUFFER.pack(len(usage), crc32(usage), first_token_at_us, attempts, 0) + usage
        self._map[buffer : buffer + len(written)] = written
        self._map[at + 1] = flip

    def close(self) -> None:
        if self.created:
            self._map.close()


def _allocate(path: Path, size_bytes: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
        return mmap.mmap(descriptor, size_bytes)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def read_table(path: Path) -> list[Inflight]:
    """The open slots of a process that is gone."""
    content = path.read_bytes()
    if len(content) < _HEADER_BYTES:
        return []  # killed while making it
    magic, slots, slot_bytes = _MAGIC.unpack_from(content)
    if magic != _MAGIC_TEXT or slot_bytes != SLOT_BYTES or len(content) < _HEADER_BYTES + slots * SLOT_BYTES:
        return []
    found = (_read_slot(content, slot) for slot in range(slots))
    return [inflight for inflight in found if inflight is not None]


def map_table(path: Path) -> mmap.mmap:
    """That of a process that is gone and left open slots, to note in."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def note_journalled(content: mmap.mmap, slot: int, ending: Ending) -> None:
    at = _at(slot)
    content[at + 2] = _NUMBERS[ending]
    content[at] = _JOURNALLED


def _read_slot(content: bytes, slot: int) -> Inflight | None:
    at = _at(slot)
    state, valid, ending, _, head_length, head_crc, claim_length = _SLOT.unpack_from(content, at)
    if state not in {_OPEN, _JOURNALLED} or valid > 1:
        return None
    if head_length + claim_length > HEAD_BYTES_MAX or ending >= len(ENDINGS):
        return None
    head = content[at + _SLOT.size : at + _SLOT.size + head_length]
    if crc32(head) != head_crc:
        return None
    claim = b""
    if claim_length:
        claim_at = at + _SLOT.size + head_length
        [claim_crc] = _CLAIM.unpack_from(content, claim_at)
        claim = content[claim_at + _CLAIM.size : claim_at + _CLAIM.size + claim_length]
        claim = claim if crc32(claim) == claim_crc else b""
    journalled = ENDINGS[ending] if state == _JOURNALLED else None
    # The other buffer holds the value before: older, never more than was relayed.
    noted = [found for flip in (valid, 1 - valid) if (found := _read_buffer(content, at, flip)) is not None]
    if not noted:
        return Inflight(slot, head, b"", None, 0, claim, journalled)
    usage, first_token, attempts = noted[0]
    return Inflight(slot, head, usage, first_token or None, attempts, claim, journalled, noted[-1][0])


def _read_buffer(content: bytes, at: int, flip: int) -> tuple[bytes, int, int] | None:
    buffer = at + _BUFFERS_AT + flip * _BUFFER_BYTES
    length, crc, first_token, attempts, _ = _BUFFER.unpack_from(content, buffer)
    usage = content[buffer + _BUFFER.size : buffer + _BUFFER.size + length]
    if length > USAGE_BYTES_MAX or crc32(usage) != crc:
        return None
    return usage, first_token, attempts


def _at(slot: int) -> int:
    return _HEADER_BYTES + slot * SLOT_BYTES
