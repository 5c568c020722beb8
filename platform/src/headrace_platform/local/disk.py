"""Whether the disk has room for the stack's state."""

import shutil
from collections.abc import Callable
from pathlib import Path

from headrace_platform.local.problems import DiskFull

# Postgres' write-ahead log may take one of them, journals and logs the other; a demo uses a tenth.
FREE_BYTES_MIN = 2 * 1024**3

FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """On the file system that holds `folder`, or will when it has been made."""
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(standing).free


def expect_room(folder: Path, free: FreeBytes = free_bytes) -> None:
    """Raises `DiskFull`."""
    have = free(folder)
    if have < FREE_BYTES_MIN:
        raise DiskFull(
            f"{folder} is on a disk with {have / 1024**3:.1f} GiB free; "
            f"the stack wants {FREE_BYTES_MIN / 1024**3:.0f} GiB.",
            next_step="Make room, or choose a folder on another disk with --state.",
        )
