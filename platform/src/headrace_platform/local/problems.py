"""Why the stack can't do what it was asked to: each with a stable code, and what to do about it."""


class StackProblem(Exception):
    """Base of every failure that whoever runs `headrace` can cause, or mend."""

    code: str

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


class PortTaken(StackProblem):
    code = "port_taken"

    def __init__(self, *, port: int, program: str, holder: str, option: str | None) -> None:
        another = f", or choose another port with {option}" if option else ""
        super().__init__(
            f"Port {port}, which {program} is to listen on, is held by {holder}.",
            next_step=f"Stop that process{another}.",
        )
        self.port = port


class DiskFull(StackProblem):
    code = "disk_full"


class EngineMissing(StackProblem):
    """The engine's own environment, with Ray and vLLM, is not there."""

    code = "engine_missing"


class DependencyMissing(StackProblem):
    code = "dependency_missing"


class ProgramDied(StackProblem):
    """A program ended while the stack was starting; `log_tail` is what it said last."""

    code = "program_died"

    def __init__(self, *, program: str, status: str, log_tail: str) -> None:
        super().__init__(
            f"{program} ended ({status}) while starting.", next_step=f"See `headrace logs {program}`."
        )
        self.program = program
        self.log_tail = log_tail


class ProgramSlow(StackProblem):
    """A program runs, but was not ready in the time that it has."""

    code = "program_slow"

    def __init__(self, *, program: str, seconds: float, log_tail: str) -> None:
        super().__init__(
            f"{program} was not ready within {seconds:.0f} s.", next_step=f"See `headrace logs {program}`."
        )
        self.program = program
        self.log_tail = log_tail


class Busy(StackProblem):
    """Another `headrace up` or `down` is at work on the same state."""

    code = "busy"


class OtherwiseRunning(StackProblem):
    """The stack runs with another port or upstream than now asked for."""

    code = "otherwise_running"


class NoSuchProgram(StackProblem):
    code = "no_such_program"


class StateUnusable(StackProblem):
    """The state folder is someone else's, or something else's."""

    code = "state_unusable"
