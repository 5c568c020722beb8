"""Checks of the machine and of the state: what is amiss, and what to do about it."""

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec
import psutil

from headrace_platform.local import disk, ports, postgres, processes, valkey
from headrace_platform.local.environments import engine_python
from headrace_platform.local.layout import OPTIONS, PREFERRED
from headrace_platform.local.problems import StackProblem
from headrace_platform.local.state import State
from headrace_platform.local.unprivileged import nobody_for

PYTHON_MIN = (3, 11)
# Resident, engine and services together, with room for the first requests.
MEMORY_BYTES_MIN = 5 * 1024**3
GIB = 1024**3


class Verdict(StrEnum):
    FINE = "fine"
    WARNING = "warning"  # it will work, and not as well as it could
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    check: str
    verdict: Verdict
    saw: str
    next_step: str = ""


def examine(state: State, free_bytes: disk.FreeBytes = disk.free_bytes) -> list[Finding]:
    return [
        _python(),
        *_binaries(),
        _engine(),
        _disk(state.root, free_bytes),
        _memory(),
        *_ports(state),
        *_processes(state),
    ]


def _fine(check: str, saw: str) -> Finding:
    return Finding(check=check, verdict=Verdict.FINE, saw=saw)


def _wrong(check: str, problem: StackProblem) -> Finding:
    return Finding(check=check, verdict=Verdict.WRONG, saw=str(problem), next_step=problem.next_step)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON_MIN:
        return _fine("python", version)
    return Finding(
        check="python",
        verdict=Verdict.WRONG,
        saw=version,
        next_step="Install Python 3.11 or newer, then `make setup`.",
    )


def _binaries() -> Iterator[Finding]:
    finders: dict[str, Callable[[], Path]] = {
        "postgres": lambda: postgres.binaries() / "postgres",
        "valkey": valkey.binary,
    }
    for check, find in finders.items():
        try:
            binary = find()
            if not binary.exists():
                yield Finding(
                    check=check,
                    verdict=Verdict.WRONG,
                    saw=f"{binary} is missing: there is none for this machine.",
                    next_step="Use Linux (x86-64, arm64) or macOS, then `make setup`.",
                )
                continue
            if check == "postgres":
                nobody_for(binary)
            yield _fine(check, str(binary))
        except StackProblem as problem:
            yield _wrong(check, problem)


def _engine() -> Finding:
    try:
        return _fine("engine", str(engine_python()))
    except StackProblem as problem:
        return _wrong("engine", problem)


def _disk(folder: Path, free_bytes: disk.FreeBytes) -> Finding:
    try:
        disk.expect_room(folder, free_bytes)
    except StackProblem as problem:
        return _wrong("disk", problem)
    return _fine("disk", f"{free_bytes(folder) / GIB:.1f} GiB free")


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    saw = f"{available / GIB:.1f} GiB available"
    if available >= MEMORY_BYTES_MIN:
        return _fine("memory", saw)
    return Finding(
        check="memory",
        verdict=Verdict.WARNING,
        saw=saw,
        next_step=(
            f"The stack with its engine takes up to {MEMORY_BYTES_MIN / GIB:.0f} GiB: close something, "
            "or use an engine elsewhere with `headrace up --upstream URL`."
        ),
    )


def _ports(state: State) -> Iterator[Finding]:
    layout = state.layout()
    for program, usual in PREFERRED.items():
        port = layout.ports[program] if layout else usual
        check = f"port {port}"
        if processes.running(state, program):
            yield _fine(check, f"held by our own {program}")
        elif ports.is_free(port):
            yield _fine(check, f"free for {program}")
        else:
            yield Finding(
                check=check,
                verdict=Verdict.WARNING,
                saw=f"held by {ports.holder(port)}",
                next_step=f"{program} will listen on another, or on the one given with {OPTIONS[program]}.",
            )


def _processes(state: State) -> Iterator[Finding]:
    for file in sorted((state.root / "processes").glob("*.json")):
        program = file.stem
        # Migrations end by themselves.
        if program != "billing-migrations" and not processes.running(state, program):
            yield Finding(
                check=program,
                verdict=Verdict.WRONG,
                saw="It was started and has died.",
                next_step=f"See `headrace logs {program}`, then start it again with `headrace up`.",
            )
