"""A small disk for a gateway's journal that can be filled: a file system of its own where we may mount one.

Else the folder is made unwritable for the time, which stops a journal at the same place, when it wants its next
segment; the report says which it was.
"""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILLER = "filler"
PIECE_BYTES = 64 * 1024


class SmallDisk:
    def __init__(self, folder: Path, *, size_bytes: int) -> None:
        self.folder = folder
        self.own_file_system = False
        self._size_bytes = size_bytes

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            options = f"size={self._size_bytes},mode=0700"
            command = ["mount", "-t", "tmpfs", "-o", options, "headrace-chaos", str(self.folder)]
            self.own_file_system = subprocess.run(command, check=False, capture_output=True).returncode == 0
        try:
            yield
        finally:
            self.empty()
            if self.own_file_system:
                subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    @property
    def how(self) -> str:
        return "a tmpfs filled to the last byte" if self.own_file_system else "a folder made unwritable"

    def fill(self) -> None:
        if not self.own_file_system:
            for folder in self._folders():
                folder.chmod(0o500)
            return
        with (self.folder / FILLER).open("wb", buffering=0) as file:
            piece = bytes(PIECE_BYTES)
            while piece:
                try:
                    file.write(piece)
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error  # noqa: PT017 - only a full disk is what we want
                    piece = piece[: len(piece) // 2]

    def empty(self) -> None:
        if self.own_file_system:
            (self.folder / FILLER).unlink(missing_ok=True)
            return
        for folder in self._folders():
            folder.chmod(0o700)

    def _folders(self) -> list[Path]:
        return [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())]
