"""Deciding where everything listens and which engine answers, and keeping to that.

Ports that were once chosen stay as long as anything of the stack runs: its programs know one another by them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from headrace_platform.local import ports
from headrace_platform.local.problems import OtherwiseRunning, PortTaken
from headrace_platform.local.state import Layout, Upstream

MODEL = "glm-tiny"

# What people type and put into clients.
GATEWAY_PORT = 8080
BILLING_PORT = 8081

# Under the range from which the kernel takes the local ports of outgoing connections, which could otherwise
# be sitting on one of ours at the next start.
PORTS_UNREMARKABLE = range(20_000, 30_000)
PORT_ATTEMPTS_MAX = 100

LISTENERS = ("postgres", "valkey", "engine", "billing-api", "gateway")
OPTIONS = {"gateway": "--gateway-port", "billing-api": "--billing-port"}
PREFERRED = {"gateway": GATEWAY_PORT, "billing-api": BILLING_PORT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked for on the command line; null means as before, or as usual."""

    gateway_port: int | None = None
    billing_port: int | None = None
    gateway_workers: int | None = None
    upstream: Upstream | None = None
    engine_here: bool = False
    """Run the engine on this machine again, after a start with an upstream."""

    @property
    def ports(self) -> dict[str, int]:
        asked = {"gateway": self.gateway_port, "billing-api": self.billing_port}
        return {program: port for program, port in asked.items() if port is not None}


def decide(
    before: Layout | None,
    wishes: Wishes,
    *,
    alive: set[str],
    is_free: Callable[[int], bool] = ports.is_free,
) -> Layout:
    """The layout to start with, given the programs that are `alive`.

    Raises `OtherwiseRunning` when that would need a running program to change, `PortTaken` when a port that
    can't be exchanged is someone else's.
    """
    upstream = wishes.upstream or (None if wishes.engine_here or before is None else before.upstream)
    workers = wishes.gateway_workers or (before.gateway_workers if before else 1)
    wanted = (before.ports if before else {}) | wishes.ports
    asked = sorted({*(before.ports_asked if before else []), *wishes.ports})

    if before and alive:
        moved = [
            program
            for program, port in wishes.ports.items()
            if program in alive and port != before.ports[program]
        ]
        if upstream != before.upstream:
            moved.append("its engine is another one")
        if "gateway" in alive and workers != before.gateway_workers:
            moved.append(f"the gateway has {before.gateway_workers} workers")
        if moved:
            raise OtherwiseRunning(
                f"The stack runs already, and not as asked: {', '.join(moved)}.",
                next_step="Stop it first with `headrace down`, then start it anew.",
            )

    chosen: dict[str, int] = {}
    for program in LISTENERS:
        port = wanted.get(program)
        if port is not None and (program in alive or is_free(port)):
            chosen[program] = port
        elif port is not None and (program in asked or alive):
            raise PortTaken(
                port=port, program=program, holder=ports.holder(port), option=OPTIONS.get(program)
            )
        else:
            chosen[program] = _another(program, {*chosen.values(), *wanted.values()}, is_free)
    return Layout(model=MODEL, ports=chosen, ports_asked=asked, upstream=upstream, gateway_workers=workers)


def _another(program: str, taken: set[int], is_free: Callable[[int], bool]) -> int:
    # At random, so that two stacks that start at the same time hardly choose the same.
    others = random.sample(PORTS_UNREMARKABLE, PORT_ATTEMPTS_MAX)
    for port in (PREFERRED[program], *others) if program in PREFERRED else others:
        if port not in taken and is_free(port):
            return port
    raise AssertionError(f"none of {PORT_ATTEMPTS_MAX} ports drawn from {PORTS_UNREMARKABLE} was free")
