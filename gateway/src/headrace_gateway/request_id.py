"""Request ids: UUIDv7 (RFC 9562), so they sort by time. Valkey's time for what is admitted, ours for what is refused before."""

import os
import time
from collections.abc import Iterator

RANDOM_BYTES = 10
STOCK = 256


def new_request_id() -> str:
    milliseconds = time.time_ns() // 1_000_000
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-{_suffix(os.urandom(RANDOM_BYTES))}"


def random_suffixes() -> Iterator[str]:
    """What follows the time in an id.

    Not to be shared by processes: the system is asked for many at a time, which costs a fifth of asking for each.
    """
    while True:
        stock = os.urandom(RANDOM_BYTES * STOCK)
        for at in range(0, len(stock), RANDOM_BYTES):
            yield _suffix(stock[at : at + RANDOM_BYTES])


def _suffix(random: bytes) -> str:
    """74 of the bits, with the version and the variant."""
    bits = int.from_bytes(random)
    return f"7{bits >> 68:03x}-{0x8000 | bits >> 48 & 0x3FFF:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
