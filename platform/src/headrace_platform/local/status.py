"""What of the stack runs, as a value: printed as a table for people, as JSON for programs."""

import time
from enum import StrEnum

import msgspec

from headrace_platform.local import processes
from headrace_platform.local.programs import Program
from headrace_platform.local.state import State


class Condition(StrEnum):
    READY = "ready"
    NOT_READY = "not_ready"  # it runs, and does not answer its health check
    DEAD = "dead"  # it was started and has ended without being stopped
    STOPPED = "stopped"


class ProgramStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    condition: Condition
    pid: int | None
    port: int | None
    url: str | None
    uptime_seconds: float | None
    log: str


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Fields are only ever added: scripts read this."""

    ready: bool
    """Every program of the stack is."""
    state: str
    gateway_url: str | None
    billing_url: str | None
    model: str | None
    programs: list[ProgramStatus]


def program_status(state: State, program: Program) -> ProgramStatus:
    record = processes.recorded(state, program.name)
    alive = record is not None and record.alive()
    if record is None:
        condition = Condition.STOPPED
    elif not alive:
        condition = Condition.DEAD
    else:
        condition = Condition.READY if program.server.is_ready() else Condition.NOT_READY
    return ProgramStatus(
        name=program.name,
        condition=condition,
        pid=record.pid if record and alive else None,
        port=program.port,
        url=program.url,
        uptime_seconds=round(time.time() - record.started_at, 1) if record and alive else None,
        log=str(state.log(program.name)),
    )
