"""The command `headrace`: the embedded stack's switches.

Exit status: 0 done, 1 it could not be done or something is not as it should be, 2 the command was not
understood.
"""

import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace_platform.local import doctor as doctors
from headrace_platform.local.first_key import first_key
from headrace_platform.local.layout import MODEL, Wishes
from headrace_platform.local.logs import follow
from headrace_platform.local.problems import ProgramDied, ProgramSlow, StackProblem, StateUnusable
from headrace_platform.local.progress import progress_for
from headrace_platform.local.stack import STATE_VARIABLE, Stack
from headrace_platform.local.state import State, Upstream
from headrace_platform.local.status import Condition, StackStatus

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Headrace on one machine: start it, look at it, stop it.",
    pretty_exceptions_show_locals=False,  # they may hold secrets
)
console = Console()
complaints = Console(stderr=True)

StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar=STATE_VARIABLE, help="State folder.", show_default=".headrace"),
]
Port = Annotated[int | None, typer.Option(min=1, max=65535)]


@app.command()
def up(  # noqa: PLR0917  (typer makes options of them)
    state: StateOption = None,
    upstream: Annotated[
        str | None, typer.Option(help="Base address of an engine that runs elsewhere; none is started here.")
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option(help="The name under which that engine serves the model.")
    ] = None,
    engine: Annotated[bool, typer.Option("--engine", help="Run the engine here again.")] = False,
    gateway_port: Port = None,
    billing_port: Port = None,
    gateway_workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes of the gateway, a core each; one at first.")
    ] = None,
) -> None:
    """Start what is not running, and wait until it is healthy."""
    if upstream is not None and engine:
        raise typer.BadParameter("choose one of --upstream and --engine")
    if upstream_model is not None and upstream is None:
        raise typer.BadParameter("--upstream-model goes with --upstream")
    wishes = Wishes(
        gateway_port=gateway_port,
        billing_port=billing_port,
        gateway_workers=gateway_workers,
        upstream=None
        if upstream is None
        else Upstream(url=base_url(upstream), model=upstream_model or MODEL),
        engine_here=engine,
    )
    stack = stack_at(state)
    signal.signal(signal.SIGTERM, give_up)
    try:
        endpoints = stack.start(wishes, progress_for(console))
        if endpoints.api_key is None:
            stack.keep_api_key(first_key(endpoints))
    except StackProblem as problem:
        fail(problem)
    except KeyboardInterrupt:
        complaints.print("Interrupted; what this start had begun is stopped again.")
        raise typer.Exit(130) from None
    console.print(f"\n  gateway   {endpoints.gateway_url}/v1   model {endpoints.model}", highlight=False)
    console.print(f"  billing   {endpoints.billing_url}", highlight=False)
    console.print(
        f"  API key   in {stack.state / 'endpoints.json'}, with the other secrets",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def down(
    state: StateOption = None,
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Also remove the state: ledger, secrets, logs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop everything; the state stays, unless --wipe."""
    stack = stack_at(state)
    known = State.at(stack.folder).exists
    if wipe and not yes and known:
        typer.confirm(f"Remove {stack.state} with the ledger and all secrets?", abort=True)
    try:
        stack.stop(tell=lambda name, graceful: console.print(f"{name:<19}{ENDED[graceful]}", highlight=False))
        if wipe and stack.state.exists():
            if not known:
                raise StateUnusable(
                    f"{stack.state} is not a state folder of Headrace.", next_step="Remove it yourself."
                )
            shutil.rmtree(stack.state)
            console.print(f"{stack.state} removed", highlight=False, soft_wrap=True)
    except StackProblem as problem:
        fail(problem)


@app.command()
def status(
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Name, pid, state and address of each process; exit status 1 unless all are ready."""
    seen = stack_at(state).status()
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(seen), indent=2).decode() + "\n")
    else:
        print_status(seen)
    raise typer.Exit(0 if seen.ready else 1)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="One program; all without it.")] = None,
    state: StateOption = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=10_000, help="Last lines of each.")] = 50,
    follow_on: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
) -> None:
    """What the programs said."""
    stack = stack_at(state)
    try:
        files = stack.logs(name)
    except StackProblem as problem:
        fail(problem)
    for program in files:
        for line in stack.log_tail(program, lines):
            print_line(program, line, alone=name is not None)
    if follow_on:
        try:
            for program, line in follow(files):
                print_line(program, line, alone=name is not None)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@app.command()
def doctor(state: StateOption = None) -> None:
    """Check the machine and the state, and say what to do; exit status 1 if something is wrong."""
    findings = doctors.examine(State.at(stack_at(state).folder))
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        style = VERDICT_STYLES[finding.verdict]
        table.add_row(finding.check, f"[{style}]{finding.verdict}[/]", escape(finding.saw))
        if finding.next_step:
            table.add_row("", "", f"→ {escape(finding.next_step)}")
    console.print(table)
    raise typer.Exit(1 if any(finding.verdict == doctors.Verdict.WRONG for finding in findings) else 0)


ENDED = {True: "stopped", False: "killed: it did not stop in its time"}
VERDICT_STYLES = {
    doctors.Verdict.FINE: "green",
    doctors.Verdict.WARNING: "yellow",
    doctors.Verdict.WRONG: "bold red",
}
CONDITION_STYLES = {
    Condition.READY: "green",
    Condition.NOT_READY: "yellow",
    Condition.DEAD: "bold red",
    Condition.STOPPED: "dim",
}


def stack_at(state: Path | None) -> Stack:
    return Stack(state) if state is not None else Stack()


def base_url(upstream: str) -> str:
    """The engine's address without `/v1`, which people tend to include."""
    parts = urlsplit(upstream)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{upstream!r} is not an http or https address")
    return upstream.rstrip("/").removesuffix("/v1")


def fail(problem: StackProblem) -> NoReturn:
    if isinstance(problem, ProgramDied | ProgramSlow) and problem.log_tail:
        complaints.print(problem.log_tail, style="dim", markup=False, highlight=False, soft_wrap=True)
    complaints.print(f"\n{problem}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    complaints.print(problem.next_step, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1) from problem


def give_up(number: int, _frame: FrameType | None) -> NoReturn:
    """A start that is told to end takes back what it began, as when it is interrupted."""
    raise SystemExit(128 + number)


def print_status(seen: StackStatus) -> None:
    if not seen.programs:
        console.print(f"Nothing was ever started in {seen.state}.", highlight=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("program", "state", "pid", "address", "up"):
        table.add_column(heading)
    for program in seen.programs:
        condition = program.condition.replace("_", " ")
        address = program.url or (f"port {program.port}" if program.port else "")
        up_for = "" if program.uptime_seconds is None else f"{program.uptime_seconds:.0f} s"
        table.add_row(
            program.name,
            f"[{CONDITION_STYLES[program.condition]}]{condition}[/]",
            str(program.pid or ""),
            address,
            up_for,
        )
    console.print(table)


def print_line(program: str, line: str, *, alone: bool) -> None:
    sys.stdout.write(line + "\n" if alone else f"{program:<19}{line}\n")
    sys.stdout.flush()
