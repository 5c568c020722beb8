"""One stack, by its state folder: what the commands and the demo do with it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from headrace_contracts.deployments import encode_table
from headrace_contracts.endpoints import Endpoints
from headrace_platform.local import disk, processes
from headrace_platform.local.environments import engine_python, services_python
from headrace_platform.local.layout import Wishes, decide
from headrace_platform.local.logs import tail
from headrace_platform.local.problems import NoSuchProgram, StateUnusable
from headrace_platform.local.programs import Blueprint, Program
from headrace_platform.local.progress import Progress, Silent
from headrace_platform.local.starting import Starting
from headrace_platform.local.state import Layout, State
from headrace_platform.local.status import StackStatus, program_status

STATE_VARIABLE = "HEADRACE_STATE"
STATE_FOLDER = ".headrace"


def default_state() -> Path:
    return Path(os.environ.get(STATE_VARIABLE) or STATE_FOLDER)


@dataclass(frozen=True, slots=True)
class Stack:
    folder: Path = field(default_factory=default_state)
    free_bytes: disk.FreeBytes = disk.free_bytes

    @property
    def state(self) -> Path:
        return self._state.root

    @property
    def _state(self) -> State:
        return State.at(self.folder)

    def start(self, wishes: Wishes | None = None, progress: Progress | None = None) -> Endpoints:
        """Starts whatever is not running, and returns when all is healthy.

        Raises a `StackProblem`; what this call had started is ended then.
        """
        state = self._state
        if not self._anything_runs():
            # Bringing back a part of a stack that runs needs no room that it has not taken already.
            disk.expect_room(state.root, self.free_bytes)
        state.create()
        with state.lock():
            before = state.layout()
            alive = self._alive(before) if before else set()
            layout = decide(before, wishes or Wishes(), alive=alive)
            blueprint = self._blueprint(layout)
            state.keep_layout(layout)
            state.replace(state.deployments_file, encode_table(blueprint.deployments()))
            known = state.endpoints()
            state.keep_endpoints(blueprint.endpoints(known.api_key if known else None))
            with progress or Silent() as shown:
                Starting(state, blueprint.programs(), shown).run()
        return self.endpoints()

    def _anything_runs(self) -> bool:
        layout = self._state.layout()
        return layout is not None and any(
            processes.running(self._state, program.name) for program in self._programs(layout)
        )

    def _alive(self, layout: Layout) -> set[str]:
        """The programs that run. Children that others of them left behind, and that hold their ports, are ended."""
        alive = set()
        for program in self._programs(layout):
            if processes.running(self._state, program.name):
                alive.add(program.name)
            elif processes.recorded(self._state, program.name):
                processes.kill_program(self._state, program.name)
        return alive

    def stop(self, *, tell: Callable[[str, bool], None] = lambda _name, _graceful: None) -> None:
        """Ends everything, in the reverse order of starting, and leaves no process behind.

        `tell` hears of each program that ran: its name, and whether it ended by itself.
        """
        state = self._state
        layout = state.layout()
        if layout is None:
            return
        with state.lock():
            for program in reversed(self._programs(layout)):
                known = processes.recorded(state, program.name) is not None
                graceful = processes.stop(
                    state, program.name, stop_signal=program.stop_signal, grace_seconds=program.grace_seconds
                )
                if known and not program.once:
                    tell(program.name, graceful)
            processes.kill(processes.family(state))
            processes.reap()

    def kill(self, program: str) -> None:
        """SIGKILL to every process of one program, at once: what a crash or the kernel would do."""
        assert any(known.name == program for known in self._programs(self._known_layout())), program
        processes.kill_program(self._state, program)

    def kill_gateway(self) -> None:
        self.kill("gateway")

    def keep_api_key(self, secret: str) -> None:
        """Notes an API key in `endpoints.json`, for programs that want one."""
        self._state.keep_endpoints(structs.replace(self.endpoints(), api_key=secret))

    def endpoints(self) -> Endpoints:
        endpoints = self._state.endpoints()
        if endpoints is None:
            raise self._never_started()
        return endpoints

    def status(self) -> StackStatus:
        state = self._state
        layout = state.layout()
        if layout is None:
            return StackStatus(
                ready=False,
                state=str(state.root),
                gateway_url=None,
                billing_url=None,
                model=None,
                programs=[],
            )
        programs = [program_status(state, program) for program in self._programs(layout) if not program.once]
        endpoints = state.endpoints()
        return StackStatus(
            ready=all(program.condition == "ready" for program in programs),
            state=str(state.root),
            gateway_url=endpoints.gateway_url if endpoints else None,
            billing_url=endpoints.billing_url if endpoints else None,
            model=layout.model,
            programs=programs,
        )

    def logs(self, program: str | None = None) -> dict[str, Path]:
        """The log files, of all programs or of one. Raises `NoSuchProgram`."""
        names = [known.name for known in self._programs(self._known_layout())]
        if program is not None and program not in names:
            raise NoSuchProgram(
                f"There is no program {program!r} in the stack.", next_step=f"Choose of: {', '.join(names)}."
            )
        return {name: self._state.log(name) for name in names if program in (None, name)}

    def log_tail(self, program: str, lines_max: int) -> list[str]:
        return tail(self._state.log(program), lines_max)

    def _programs(self, layout: Layout) -> list[Program]:
        # To find programs again, the engine's interpreter need not be there any more.
        return self._blueprint(layout, engine=Path("python")).programs()

    def _blueprint(self, layout: Layout, *, engine: Path | None = None) -> Blueprint:
        return Blueprint(
            state=self._state,
            layout=layout,
            secrets=self._state.secrets(),
            services_python=services_python(),
            engine_python=None if layout.upstream else engine or engine_python(),
        )

    def _known_layout(self) -> Layout:
        layout = self._state.layout()
        if layout is None:
            raise self._never_started()
        return layout

    def _never_started(self) -> StateUnusable:
        return StateUnusable(
            f"Nothing was ever started in {self.state}.", next_step="Start it with `headrace up`."
        )
