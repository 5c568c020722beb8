"""Starting what is not running, each program as soon as those before it are ready.

What must stay true: a program that runs is left alone; when one fails, whatever this start has begun is ended
again and the rest is as it was; all forks happen on the caller's thread.
"""

import subprocess
import time
from dataclasses import dataclass, field

from headrace_platform.local import ports, processes
from headrace_platform.local.layout import OPTIONS
from headrace_platform.local.logs import open_log, tail
from headrace_platform.local.problems import PortTaken, ProgramDied, ProgramSlow
from headrace_platform.local.programs import Program
from headrace_platform.local.progress import Phase, Progress, Step
from headrace_platform.local.state import State

POLL_SECONDS = 0.1
LOG_TAIL_LINES = 20
# When a start is given up, nothing has been metered that would be worth waiting for longer.
GIVING_UP_GRACE_SECONDS = 10.0


@dataclass(slots=True)
class Launch:
    """One program on its way."""

    program: Program
    began: float
    phase: Phase = Phase.WAITING
    seconds: float = 0.0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def ready(self) -> bool:
        return self.phase in (Phase.READY, Phase.RUNNING)


@dataclass(slots=True)
class Starting:
    state: State
    programs: list[Program]
    progress: Progress
    launches: dict[str, Launch] = field(default_factory=dict)

    def run(self) -> None:
        """Returns when all is ready. Raises a `StackProblem`, having ended what it had started."""
        self.launches = {program.name: Launch(program, time.monotonic()) for program in self.programs}
        self._leave_alone_what_runs()
        try:
            while not all(launch.ready for launch in self.launches.values()):
                for launch in self.launches.values():
                    self._advance(launch)
                self._show()
                time.sleep(POLL_SECONDS)
        except BaseException:
            self._show()
            self._give_up()
            raise
        finally:
            processes.reap()

    def _leave_alone_what_runs(self) -> None:
        for launch in self.launches.values():
            if processes.running(self.state, launch.program.name):
                launch.phase = Phase.STARTING  # until it says that it is ready
        for launch in self.launches.values():
            name = launch.program.name
            followers = [other for other in self.launches.values() if name in other.program.after]
            # What is done once is done for those that come after it, and they have it already.
            if (
                launch.program.once
                and followers
                and all(other.phase is Phase.STARTING for other in followers)
            ):
                launch.phase = Phase.RUNNING

    def _advance(self, launch: Launch) -> None:
        program = launch.program
        match launch.phase:
            case Phase.WAITING:
                if all(self.launches[name].ready for name in program.after if name in self.launches):
                    self._start(launch)
            case Phase.STARTING:
                launch.seconds = time.monotonic() - launch.began
                if launch.process is None and not processes.running(self.state, program.name):
                    # It ran when we came, and was dying: then it is one more that is missing.
                    launch.phase = Phase.WAITING
                    return
                self._expect_alive(launch)
                if self._is_ready(launch):
                    if program.prepare:
                        program.prepare()
                    launch.phase = Phase.READY if launch.process else Phase.RUNNING
                elif launch.seconds > program.ready_timeout_seconds:
                    launch.phase = Phase.FAILED
                    raise ProgramSlow(
                        program=program.name,
                        seconds=program.ready_timeout_seconds,
                        log_tail=self._log_tail(program),
                    )
            case Phase.READY if not program.once:
                self._expect_alive(launch)

    def _start(self, launch: Launch) -> None:
        program = launch.program
        # A program that was killed may have left children that hold its port and its files.
        processes.stop(
            self.state, program.name, stop_signal=program.stop_signal, grace_seconds=0, at_once=True
        )
        if program.port is not None and not ports.is_free(program.port):
            launch.phase = Phase.FAILED
            raise PortTaken(
                port=program.port,
                program=program.name,
                holder=ports.holder(program.port),
                option=OPTIONS.get(program.name),
            )
        self.state.folder(program.name)
        launch.began = time.monotonic()
        launch.phase = Phase.STARTING
        with open_log(self.state.log(program.name)) as log:
            launch.process = program.server.start(log)
        processes.keep(self.state, program.name, launch.process)

    def _expect_alive(self, launch: Launch) -> None:
        """Raises `ProgramDied` for a program of this start; of another's nobody knows how it ended."""
        program, process = launch.program, launch.process
        code = process.poll() if process else None
        if code is None or (program.once and code == 0):
            return
        launch.phase = Phase.FAILED
        raise ProgramDied(
            program=program.name,
            status=f"status {code}" if code >= 0 else f"signal {-code}",
            log_tail=self._log_tail(program),
        )

    def _is_ready(self, launch: Launch) -> bool:
        if launch.program.once:
            return launch.process is not None and launch.process.poll() == 0
        return launch.program.server.is_ready()

    def _give_up(self) -> None:
        for launch in reversed(self.launches.values()):
            if launch.process is not None:
                processes.stop(
                    self.state,
                    launch.program.name,
                    stop_signal=launch.program.stop_signal,
                    grace_seconds=GIVING_UP_GRACE_SECONDS,
                )

    def _show(self) -> None:
        self.progress.show(
            {name: Step(launch.phase, launch.seconds) for name, launch in self.launches.items()}
        )

    def _log_tail(self, program: Program) -> str:
        return "\n".join(tail(self.state.log(program.name), LOG_TAIL_LINES))
