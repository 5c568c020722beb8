"""Who writes where: each worker process is a producer with a folder of its own, held by a file lock.

`<state>/producers/<gateway>-<n>/` holds `lock`, and by boot the in-flight table and the journal's segments.
A boot is one process start. Whatever in a folder is of another boot than the lock holder's is left behind
by a dead process, and whoever holds the lock may settle it. The lock file itself is never removed: a lock
on a removed name would exclude nobody.
"""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

PRODUCERS_MAX = 256  # workers a pod, far above any sensible number

TABLE_SUFFIX = ".inflight"
SEGMENT_SUFFIX = ".journal"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A locked folder. The lock goes when `release` is called or the process ends, however it ends."""

    folder: Path
    producer: str
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def claim_own(state: Path, gateway: str) -> Claim:
    """The first folder of this gateway that no living process holds: after a crash most likely our own."""
    assert _NAME.fullmatch(gateway), f"{gateway!r} can't name a producer"
    for number in range(PRODUCERS_MAX):
        folder = state / "producers" / f"{gateway}-{number}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim = _try(folder)
        if claim is not None:
            return claim
    raise AssertionError(f"{PRODUCERS_MAX} workers of {gateway} run already")


def claim_orphans(state: Path) -> list[Claim]:
    """Folders that nobody holds and that still have something in them."""
    found = []
    for folder in sorted((state / "producers").iterdir()):
        if not folder.is_dir() or not left_behind(folder, boot=None):
            continue
        claim = _try(folder)
        if claim is not None:
            found.append(claim)
    return found


def left_behind(folder: Path, *, boot: str | None) -> list[Path]:
    """The tables and segments in a folder that are not of `boot`, oldest segment first."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in {TABLE_SUFFIX, SEGMENT_SUFFIX} and boot_of(path) != boot
    )


def table_path(folder: Path, boot: str) -> Path:
    return folder / f"{boot}{TABLE_SUFFIX}"


def segment_path(folder: Path, boot: str, number: int) -> Path:
    return folder / f"{boot}.{number:08d}{SEGMENT_SUFFIX}"


def boot_of(path: Path) -> str:
    return path.name.partition(".")[0]


def _try(folder: Path) -> Claim | None:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Claim(folder=folder, producer=folder.name, descriptor=descriptor)
