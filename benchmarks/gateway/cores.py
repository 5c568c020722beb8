"""Which core does what, and what a program has used of its own.

What is measured has one core to itself; the load, the engine, Valkey and billing share another. Linux alone lets a
program say so, and alone tells nanoseconds.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


class TooFewCores(Exception):
    """There is no second core, or no Linux to give it out."""


@dataclass(frozen=True, slots=True)
class Cores:
    load: int
    target: int


def choose() -> Cores:
    """To be asked before this process is held to one itself."""
    if not hasattr(os, "sched_getaffinity"):
        raise TooFewCores("Programs can be held to a core on Linux alone.")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise TooFewCores("Two cores are needed: one for what is measured, one for the load.")
    return Cores(load=allowed[0], target=allowed[-1])


def hold(pid: int, cores: Collection[int]) -> None:
    """Holds a program to cores: its children, and every thread that runs now or is started later."""
    for process in tree(pid):
        for thread in _threads(process.pid):
            os.sched_setaffinity(int(thread.name), cores)


def cpu_seconds(pid: int) -> float:
    """Of a whole tree of processes, user and system; what has ended is no longer counted."""
    nanoseconds = 0
    for process in tree(pid):
        for thread in _threads(process.pid):
            try:
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return nanoseconds / 1e9


def memory_mib(pid: int) -> tuple[float, float]:
    """RSS and PSS of a tree: the latter divides what processes share."""
    rss = pss = 0
    for process in tree(pid):
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        rss += sizes["Rss"]
        pss += sizes["Pss"]
    return rss / 1024, pss / 1024


def tree(pid: int) -> Iterator[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []
