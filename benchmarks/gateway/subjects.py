"""What is measured: peers as far as they are there, the gateway in several shapes, and its parts a few at a time.

All run at once, each held to the one core of what is measured; those whose turn it isn't rest, which costs next to nothing.
"""

import http.client
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.gateway import cores, machine, relay
from benchmarks.gateway.cores import Cores
from benchmarks.gateway.engine import MODEL
from benchmarks.gateway.load import Target
from benchmarks.gateway.peers import PEERS, Peer
from benchmarks.gateway.programs import Program, launching, listens, started
from benchmarks.gateway.stack import Stack

from headrace_platform.local.ports import HOST, unused_port
from headrace_platform.local.python_module import HealthRoute

ROOT = Path(__file__).parents[2]

GATEWAY = "headrace"
TWO_WORKERS = "headrace, 2 workers"
TWO_WORKERS_TWICE = "headrace, 2 workers, double load"
WALLET_ONLY = "headrace, a wallet alone"
STEPS = {
    "relay": "the server and the upstream client alone",
    "reading": "+ the request is read, judged and written anew, and the answer",
    "keys": "+ the key is looked up and checked",
    "calls": "+ Valkey is called twice, with as much as metering sends, and does nothing",
    "waits": "+ Valkey is about as long busy with these calls as with those of a limit of every kind",
    "memory": (
        "+ all else of a request: routing, admission, a hold on the wallet, settlement, in-flight table, metrics; "
        "the journal stays in memory"
    ),
    WALLET_ONLY: "+ the journal is on the disk",
    GATEWAY: "+ a limit of every kind",
}
"""What each step adds to the one before it; the last two are the gateway itself, asked with one key or the other."""


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    does: str
    version: str
    target: Target
    program: Program
    streams: bool
    counts: bool
    """Whether billing has work after each of its rounds."""
    connections: int = 1
    """How many times as many as the others are asked over."""

    @property
    def cpu_seconds(self) -> float:
        return cores.cpu_seconds(self.program.pid)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of all that there is shall be measured."""

    peers: Sequence[Peer] = PEERS
    parts: bool = True
    pythons: Sequence[Path] = ()
    """Interpreters of other environments, which have the gateway too."""


@contextmanager
def started_subjects(
    wanted: Wanted, stack: Stack, engine_port: int, where: Cores
) -> Iterator[tuple[list[Subject], list[Peer]]]:
    """Also the peers that are not installed."""
    with ExitStack() as running:
        subjects: list[Subject] = []
        absent: list[Peer] = []
        for peer in wanted.peers:
            executable = peer.program()
            if executable is None:
                absent.append(peer)
            else:
                subjects.append(running.enter_context(_peer(peer, executable, stack.folder, engine_port)))
        gateway = running.enter_context(
            started_gateway(GATEWAY, stack, "limits of every kind, holds, journal")
        )
        subjects.append(gateway)
        if wanted.parts:
            two = running.enter_context(started_gateway(TWO_WORKERS, stack, "the same", workers=2))
            subjects += [two, replace(two, name=TWO_WORKERS_TWICE, connections=2)]
            subjects += [running.enter_context(_part(step, stack)) for step in relay.STEPS]
            subjects.append(_wallet_only(gateway, stack))
        for python in wanted.pythons:
            name = f"headrace, {machine.interpreter(python)}"
            subjects.append(running.enter_context(started_gateway(name, stack, "the same", python=python)))
        for subject in subjects:
            cores.hold(subject.program.pid, {where.target})
        yield subjects, absent


@contextmanager
def _peer(peer: Peer, executable: str, folder: Path, engine_port: int) -> Iterator[Subject]:
    port = unused_port()
    command = peer.command(executable, folder, port, engine_port)
    target = Target(port, MODEL, command.headers)
    launch = launching(command.arguments, command.environment, folder)
    ready = partial(answers, target)
    with started(launch, ready, folder / f"{peer.name}.log", ready_seconds=peer.ready_seconds) as program:
        yield Subject(
            peer.name,
            peer.does,
            peer.version(executable),
            target,
            program,
            streams=peer.streams,
            counts=False,
        )


@contextmanager
def started_gateway(
    name: str, stack: Stack, does: str, *, workers: int = 1, python: Path | None = None
) -> Iterator[Subject]:
    port, producer = unused_port(), producer_of(name)
    interpreter = python or Path(sys.executable)
    launch = launching(
        [interpreter, "-P", "-m", "headrace_gateway"],
        stack.gateway(producer, port, workers=workers),
        stack.folder,
    )
    ready = HealthRoute(host=HOST, port=port, path="/readyz").answers
    with started(launch, ready, stack.folder / f"{producer}.log") as program:
        target = _target(port, stack.secret_limited)
        yield Subject(
            name,
            does,
            machine.interpreter(interpreter),
            target,
            program,
            streams=name == GATEWAY or python is not None,
            counts=True,
        )


@contextmanager
def _part(step: str, stack: Stack) -> Iterator[Subject]:
    port = unused_port()
    launch = launching(
        [sys.executable, "-m", "benchmarks.gateway.relay", step, str(port)],
        stack.gateway(f"part-{step}", port),
        ROOT,
    )
    target = _target(port, stack.secret_unlimited)
    is_ready = (
        HealthRoute(host=HOST, port=port, path="/readyz").answers
        if step == "memory"
        else partial(listens, port)
    )
    with started(launch, is_ready, stack.folder / f"part-{step}.log") as program:
        yield Subject(step, STEPS[step], "", target, program, streams=False, counts=step == "memory")


def _wallet_only(gateway: Subject, stack: Stack) -> Subject:
    """The same process, asked with the other key."""
    target = _target(gateway.target.port, stack.secret_unlimited)
    return Subject(WALLET_ONLY, "the same", "", target, gateway.program, streams=False, counts=True)


def producer_of(name: str) -> str:
    """By which a gateway names its journals."""
    return "".join(character if character.isalnum() else "-" for character in name.lower())


def _target(port: int, secret: str) -> Target:
    return Target(port, MODEL, (("authorization", f"Bearer {secret}"),))


def answers(target: Target) -> bool:
    """Whether it answers a request as it is measured, not only that it listens."""
    connection = http.client.HTTPConnection(HOST, target.port, timeout=5)
    _, _, body = target.request(streamed=False).partition(b"\r\n\r\n")
    headers = {"content-type": "application/json", **dict(target.headers)}
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK and "usage" in json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
