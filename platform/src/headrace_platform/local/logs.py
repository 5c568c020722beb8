"""What the programs said: one file each, appended to over all starts."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from headrace_telemetry.logs import SECRET

# Two generations of this size a program: a year of quiet running, or an hour of trouble.
LOG_BYTES_MAX = 20 * 1024 * 1024
TAIL_BYTES_MAX = 256 * 1024
FOLLOW_INTERVAL_SECONDS = 0.2


def open_log(file: Path) -> IO[bytes]:
    """The log to append to. A full one is put aside first, in the place of the one put aside before."""
    if file.exists() and file.stat().st_size > LOG_BYTES_MAX:
        file.rename(file.with_suffix(".log.1"))
    return file.open("ab")


def tail(file: Path, lines_max: int) -> list[str]:
    """The last lines; those of a program that breaks our rule and logs a secret have it taken out."""
    if not file.exists():
        return []
    with file.open("rb") as reading:
        size = reading.seek(0, 2)
        reading.seek(max(0, size - TAIL_BYTES_MAX))
        text = reading.read().decode(errors="replace")
    return [readable(line) for line in text.splitlines()[-lines_max:]] if lines_max else []


def follow(files: dict[str, Path], *, stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[str, str]]:
    """New lines of all files as they are written, each with its program's name."""
    places = {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}
    while not stop():
        for name, line in _new_lines(files, places):
            yield name, readable(line)
        time.sleep(FOLLOW_INTERVAL_SECONDS)


def readable(line: str) -> str:
    # Colours and other control sequences of a program's log would act on the reader's terminal.
    return SECRET.sub("[redacted]", _CONTROL.sub("", line))


_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def _new_lines(files: dict[str, Path], places: dict[str, int]) -> Iterable[tuple[str, str]]:
    for name, file in files.items():
        if not file.exists():
            continue
        with file.open("rb") as reading:
            if file.stat().st_size < places[name]:
                places[name] = 0  # put aside, and begun anew
            reading.seek(places[name])
            for line in reading:
                if not line.endswith(b"\n"):
                    break  # the rest of it is still being written
                places[name] += len(line)
                yield name, line.decode(errors="replace").rstrip("\n")
